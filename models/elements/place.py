"""A place in a live module where a site is read and replaced, and how a name finds it."""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, cast, runtime_checkable

from torch import Tensor, nn

from isogloss.errors import InvalidInput
from isogloss.models.elements.containers import (
    element,
    first_tensor,
    with_element,
    with_first,
)
from isogloss.models.elements.heads import PARTS, HeadPart, Heads, attention_below, heads_of
from isogloss.models.elements.patterns import PatternMode
from isogloss.models.elements.views import View, one_of
from isogloss.models.sites import at_path, path_forms, paths, site_names, unknown_site

Change = Callable[[Tensor], Tensor | None]
"""Takes what is at a site; gives what takes its place, or None to leave it."""

_HEAD = re.compile(r"(?P<path>.+)\.heads?\.(?:(?P<head>-?\d+)(?:\.(?P<of>\w+))?|(?P<part>\w+))")
_ELEMENT = re.compile(r"(?P<path>.*):(?P<key>\w+)")


@runtime_checkable
class SitePlace(Protocol):
    """Where a site is."""

    needs_eager: bool
    """Whether attention must run eagerly for it to be seen."""
    identity: tuple[object, ...]
    """Equal of two places that are one, whatever names found them."""

    def hooked(self, change: Change) -> AbstractContextManager[None]:
        """Call ``change`` in each forward pass with what is there, while this is entered."""
        ...


class OutputPlace:
    """The output of a submodule: its first tensor, or a named element."""

    needs_eager = False

    def __init__(self, name: str, module: nn.Module, key: int | str | None = None) -> None:
        self._name, self._module, self._key = name, module, key
        self.identity: tuple[object, ...] = ("output", module, 0 if key is None else key)

    @contextmanager
    def hooked(self, change: Change) -> Generator[None]:
        """Hook the output, until this is left."""

        def after(module: nn.Module, args: tuple[object, ...], output: object) -> object:
            if self._key is None:
                new = change(first_tensor(output, self._name))
                return None if new is None else with_first(output, new)
            new = change(element(output, self._key, self._name))
            return None if new is None else with_element(output, self._key, new)

        handle = self._module.register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()


class InputPlace:
    """The input of a submodule: the first tensor among its arguments."""

    needs_eager = False

    def __init__(self, name: str, module: nn.Module) -> None:
        self._name, self._module = name, module
        self.identity: tuple[object, ...] = ("input", module)

    @contextmanager
    def hooked(self, change: Change) -> Generator[None]:
        """Hook the input, until this is left."""

        def before(
            module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
        ) -> tuple[tuple[object, ...], dict[str, object]] | None:
            at: int | str | None = next(
                (i for i, value in enumerate(args) if isinstance(value, Tensor)), None
            )
            if at is None:
                at = next((k for k, value in kwargs.items() if isinstance(value, Tensor)), None)
            if at is None:
                raise InvalidInput(
                    f"site {self._name!r}: no argument of {type(module).__name__} is a tensor; "
                    "choose another submodule"
                )
            new = change(cast("Tensor", args[at] if isinstance(at, int) else kwargs[at]))
            if new is None:
                return None
            if isinstance(at, int):
                return (*args[:at], new, *args[at + 1 :]), kwargs
            return args, {**kwargs, at: new}

        handle = self._module.register_forward_pre_hook(before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


class PatternPlace:
    """The pattern that an attention module computes within its forward pass."""

    needs_eager = True

    def __init__(self, name: str, module: nn.Module) -> None:
        self._name, self._module = name, module
        self.identity: tuple[object, ...] = ("pattern", module)

    @contextmanager
    def hooked(self, change: Change) -> Generator[None]:
        """Watch the module's operations, until this is left."""
        forward = cast("Callable[..., object]", self._module.forward)

        def watched(*args: object, **kwargs: object) -> object:
            mode = PatternMode(self._name, lambda whole: _or_same(change(whole), whole))
            with mode:
                output = forward(*args, **kwargs)
            mode.require_one()
            return output

        # no pair of hooks: those behind a pass are not called where it was broken off
        own = vars(self._module)  # past what a wrapper makes of attributes that are set
        was = own.get("forward")
        own["forward"] = watched
        try:
            yield
        finally:
            own.pop("forward") if was is None else own.update(forward=was)


class ViewPlace:
    """A part of what is at another place."""

    def __init__(self, place: SitePlace, view: View, part: str | int) -> None:
        self._place, self._view = place, view
        self.needs_eager = place.needs_eager
        self.identity: tuple[object, ...] = (*place.identity, part)

    @contextmanager
    def hooked(self, change: Change) -> Generator[None]:
        """Hook the other place, until this is left."""

        def change_whole(whole: Tensor) -> Tensor | None:
            new = change(self._view.get(whole))
            return None if new is None else self._view.put(whole, new)

        with self._place.hooked(change_whole):
            yield


def locate(root: nn.Module, name: str) -> SitePlace:
    """Find the place that a name means. Nothing is run.

    * ``layers.3`` is the output of a submodule; of a tuple or mapping its first tensor.
    * ``layers.3.self_attn:1`` is an element of it, by place or by key.
    * ``layers.3.self_attn.o_proj.input`` is what a submodule takes.
    * ``layers.3.attn.heads.q`` (``k``, ``v``, ``z``) are queries as projected (before norms and
      rotation), keys, values and what each head has mixed of them, ``[batch, tokens, heads, head
      width]``; ``heads.pattern`` are the attention patterns, ``[batch, heads, queries, keys]``.
    * ``layers.3.attn.head.6`` is ``z`` of one head, ``layers.3.attn.head.6.pattern`` its pattern.
      Heads that share keys and values have those of the one that they share.

    ``attn`` stands for a layer's attention module, whatever that is called. A path may lack the
    prefix of a model of transformers (``layers.3`` for ``model.layers.3``).

    Args:
        root: the model.
        name: of the site.

    Raises:
        UnknownSite: there is no such submodule; the message lists the nearest names.
        InvalidInput: the submodule has no such head, or not in a way that is known.
    """
    path = _path(root, name)
    if path is not None:
        return OutputPlace(name, _module(root, path))
    if found := _ELEMENT.fullmatch(name):
        return _element_place(root, name, found["path"], found["key"])
    if name.endswith(".input") and (path := _path(root, name.removesuffix(".input"))) is not None:
        return InputPlace(name, _module(root, path))
    if found := _HEAD.fullmatch(name):
        return _head_place(root, name, found.groupdict())
    raise unknown_site(name, paths(root))


def distinct_sites(root: nn.Module, sites: Sequence[str]) -> tuple[str, ...]:
    """Return the names of sites, if each is a place of its own. Nothing is run.

    ``layers.3`` and ``model.layers.3`` are one place, ``head.6`` and ``head.6.z`` are too. Heads
    that share keys are several.

    Args:
        root: the model.
        sites: their names.

    Raises:
        UnknownSite: there is no such submodule.
        InvalidInput: there is no site, a submodule has no such head, or two names mean one place.
    """
    names = site_names(sites)
    seen: dict[tuple[object, ...], str] = {}
    for name in names:
        first = seen.setdefault(locate(root, name).identity, name)
        if first != name:
            raise InvalidInput(f"sites {first!r} and {name!r} are one place; name it once")
    return names


def _element_place(root: nn.Module, name: str, path: str, key: str) -> SitePlace:
    at = _path(root, path)
    if at is None:
        raise unknown_site(path, paths(root))
    heads = heads_of(root, at)
    if heads is not None and key == "1" and "pattern" not in heads.sources:
        return PatternPlace(name, _module(root, at))  # in the output it would change nothing
    return OutputPlace(name, _module(root, at), int(key) if key.isdecimal() else key)


def _head_place(root: nn.Module, name: str, found: Mapping[str, str | None]) -> SitePlace:
    part = found["part"] or found["of"] or "z"
    heads = find_heads(root, found["path"] or "", name)
    if part not in PARTS:
        raise InvalidInput(f"site {name!r}: heads have {', '.join(PARTS)}, not {part!r}")
    place = _part_place(root, name, heads, part)
    if found["head"] is None:
        return place
    head = int(found["head"])
    if not 0 <= head < heads.count:
        raise InvalidInput(
            f"site {name!r}: {heads.path} has {heads.count} heads, 0 to {heads.count - 1}; "
            f"there is no head {head}"
        )
    axis = 1 if part == "pattern" else 2
    return ViewPlace(place, one_of(axis, heads.shared(head, part)), head)


def _part_place(root: nn.Module, name: str, heads: Heads, part: HeadPart) -> SitePlace:
    source = heads.sources.get(part)
    if source is None and part == "pattern":
        return PatternPlace(name, _module(root, heads.path))
    if source is None:
        shown = ", ".join(heads.sources)
        raise InvalidInput(f"site {name!r}: {heads.path} shows {shown}, not {part}")
    path = f"{heads.path}.{source.path}" if source.path else heads.path
    module = _module(root, path)
    place: SitePlace = InputPlace(name, module) if source.is_input else OutputPlace(name, module)
    return place if source.view is None else ViewPlace(place, source.view, part)


def find_heads(root: nn.Module, path: str, name: str | None = None) -> Heads:
    """Return the heads of the attention module that a path means.

    Args:
        root: the model.
        path: of the attention module, of a layer, or of a layer with ``.attn`` behind it.
        name: of the site, for the error message; None: the path.

    Raises:
        UnknownSite: there is no such submodule.
        InvalidInput: there is no attention module there that is known, or there are several.
    """
    at = _path(root, path)
    if at is None:
        raise unknown_site(path, paths(root))
    heads = attention_below(root, at)
    if heads is None:
        raise InvalidInput(
            f"site {name or path!r}: {at} ({type(_module(root, at)).__name__}) has no attention "
            "module whose heads are known; name a submodule's output or input"
        )
    return heads


def _path(root: nn.Module, path: str) -> str | None:
    """Return the path of a submodule as the model has it; None: there is none."""
    known = next((form for form in path_forms(root, path) if at_path(root, form) is not None), None)
    layer, attn, rest = path.rpartition(".attn")
    if known is not None or not attn or (rest and not rest.startswith(".")):
        return known
    at = _path(root, layer)
    heads = None if at is None else attention_below(root, at)
    meant = "" if heads is None else f"{heads.path}{rest}"
    return meant if meant and at_path(root, meant) is not None else None


def _module(root: nn.Module, path: str) -> nn.Module:
    found = at_path(root, path)
    if found is None:
        raise unknown_site(path, paths(root))
    return found


def _or_same(new: Tensor | None, old: Tensor) -> Tensor:
    return old if new is None else new
