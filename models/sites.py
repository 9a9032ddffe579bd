"""A site: where in a model activations are read, found by its module path or a glob of paths."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from isogloss.errors import InvalidInput, UnknownSite
from isogloss.short_repr import short_repr
from isogloss.site_names import is_same_site, without_prefix

_GLOB = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\*\*|\*|\?|\[[^\]]+\]|[^*?\[]+|\[")


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A hook point of a model."""

    name: str
    """Path of the submodule whose output is read, as in ``module.named_modules()``."""
    width: int
    """Numbers per row: the size of all dimensions behind ``[batch, tokens]``."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidInput("a site's name is empty; give the path of a submodule")
        if self.width < 1:
            raise InvalidInput(f"site {self.name!r} has width {self.width}; it must be at least 1")


def site_names(sites: Sequence[str | Site]) -> tuple[str, ...]:
    """Return the names of sites, given as :class:`Site` objects or as names.

    Raises:
        InvalidInput: there is no site, or one is named twice.
    """
    if isinstance(sites, str):
        raise InvalidInput(f"sites is the string {sites!r}; give a list of names: [{sites!r}]")
    names = tuple(site.name if isinstance(site, Site) else site for site in sites)
    if not names:
        raise InvalidInput("no site was given; name at least one submodule")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InvalidInput(f"sites {twice} are named twice; name each once")
    return names


def submodule(module: nn.Module, name: str) -> nn.Module:
    """Return the submodule of ``module`` with a given name, such as ``encoder.layer.3``.

    Raises:
        UnknownSite: there is no such submodule; the message lists the nearest names.
    """
    found = at_path(module, name)
    if found is None:
        raise unknown_site(name, paths(module))
    return found


def at_path(module: nn.Module, name: str) -> nn.Module | None:
    """Return the submodule at a path, found without a list of all paths; None: there is none."""
    found: nn.Module | None = module if name else None
    for part in name.split("."):
        found = None if found is None else found._modules.get(part)
    return found


def paths(module: nn.Module) -> list[str]:
    """Return the path of every submodule, parents before children."""
    return [name for name, _ in module.named_modules(remove_duplicate=False) if name]


def match_paths(module: nn.Module, pattern: str) -> list[str]:
    """Return the paths that a pattern names, in the module's order.

    A pattern without ``*``, ``?`` or ``[`` is one path. In a glob, ``*`` and ``?`` stay within one
    component of the path and ``**`` crosses dots. A path that starts with a Hugging Face model's
    own prefix (``gpt_neox.layers.3``) also names the base model's submodule (``layers.3``), and one
    without it the submodule of the whole model.

    Raises:
        UnknownSite: nothing matches; the message lists the nearest names.
    """
    for form in path_forms(module, pattern):
        if at_path(module, form) is not None:
            return [form]
        if _GLOB.search(form):
            expression = re.compile(_expression(form))
            if found := [name for name in paths(module) if expression.fullmatch(name)]:
                return found
    raise unknown_site(pattern, paths(module))


def path_forms(module: nn.Module, path: str) -> list[str]:
    """Return a path as it is and, of a Hugging Face model, with its own prefix or without it."""
    prefix = base_prefix(module)
    if not prefix:
        return [path]
    bare = without_prefix(path, prefix)
    return [path, f"{prefix}.{path}" if bare == path else bare]


def is_site_of(module: nn.Module, one: str, other: str) -> bool:
    """Return whether two names mean one site of a live model.

    What the model has under both names is two sites; else the names tell, and the prefix of its
    base model (:mod:`isogloss.site_names`).

    Args:
        module: the model.
        one: path of a submodule, perhaps as another form of the model has it.
        other: another one.
    """
    if at_path(module, one) is not None and at_path(module, other) is not None:
        return one == other
    return is_same_site(one, other, base_prefix(module))


def base_prefix(module: nn.Module) -> str:
    """Return under what a Hugging Face model with a head holds its base model; empty: nothing."""
    prefix = getattr(module, "base_model_prefix", "")
    return prefix if isinstance(prefix, str) else ""


def _expression(glob: str) -> str:
    parts: list[str] = []
    for token in _TOKEN.findall(glob):
        if token == "**":
            parts.append(".*")
        elif token == "*":
            parts.append("[^.]*")
        elif token == "?":
            parts.append("[^.]")
        elif token.startswith("[") and token.endswith("]"):
            inside = token[1:-1].replace("\\", r"\\")
            parts.append("[" + ("^" + inside[1:] if inside.startswith("!") else inside) + "]")
        else:
            parts.append(re.escape(token))
    return "".join(parts)


def unknown_site(name: str, names: Sequence[str]) -> UnknownSite:
    """Return the error for a name that is not among ``names``."""
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    near = near or [known for known in names if "." not in known][:5]
    hint = f"nearest: {', '.join(near)}" if near else "the module has no submodules"
    return UnknownSite(f"no site {name!r}; {hint}; all names are in module.named_modules()")
