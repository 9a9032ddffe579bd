"""What a call of a module reads: token ids, padding mask, cache, by the signature of its forward.

A call is bound as Python binds it, so that an argument is found by name or by position. Where
``forward`` takes ``*args`` and ``**kwargs`` only, the signature is that of the one module inside.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn

_IDS = "input_ids"
OTHER_IDS = ("tokens", "token_ids", "input_tokens", "ids", "idx", "src", "inputs", "input", "x")
CACHES = (
    "past_key_values",
    "past_key_value",
    "past_kv_cache",
    "layer_past",
    "cache_params",
    "mems",
    "state",
    "past_buckets_states",
)
"""Names under which models take what earlier passes left, and give it back."""
_KINDS = inspect.Parameter


@dataclass(frozen=True, kw_only=True, eq=False)
class Arguments:
    """The arguments of one call of a module, by name."""

    named: Mapping[str, object]
    """Those that were given, in the order of the signature."""
    ids_by_name: bool
    """Whether the module takes ``input_ids``, so that no other argument can hold token ids."""

    @property
    def ids(self) -> Tensor | None:
        """Token ids, ``[sequences, tokens]``; None: it was given none."""
        found = self._ids_or_first()
        return found if _is_table(found) else None

    @property
    def odd_ids(self) -> str:
        """What stands where token ids were looked for, for a message."""
        found = self._ids_or_first()
        if isinstance(found, Tensor):
            return f"{found.dtype} {list(found.shape)}"
        return "nothing" if found is None else type(found).__name__

    @property
    def tables(self) -> "dict[str, Tensor]":
        """All arguments that are tables of whole numbers, whatever they hold."""
        opened: dict[str, object] = {}
        for name, value in self.named.items():
            opened[name] = value
            if isinstance(value, Mapping) and _IDS not in value:  # else its parts have names here
                inside = cast("Mapping[str, object]", value)
                opened |= {f"{name}.{key}": one for key, one in inside.items()}
        return {name: value for name, value in opened.items() if _is_table(value)}

    @property
    def cache(self) -> object:
        """What earlier calls left for this one to go on from; None: nothing."""
        return next((self.named[name] for name in CACHES if self.named.get(name) is not None), None)

    def copied(self, copies: "Copies") -> "Arguments":
        """Return the arguments with ids and padding masks as they are now."""
        named = {name: copies.of(value) for name, value in self.named.items()}
        return Arguments(named=named, ids_by_name=self.ids_by_name)

    def tensor(self, name: str) -> Tensor | None:
        """Return the argument of this name if it is a tensor."""
        found = self.named.get(name)
        return found if isinstance(found, Tensor) else None

    def _ids_or_first(self) -> object:
        if self.ids_by_name or self.named.get(_IDS) is not None:
            return self.named.get(_IDS)
        named = [self.named[name] for name in OTHER_IDS if self.named.get(name) is not None]
        given = [value for value in self.named.values() if isinstance(value, Tensor | str | list)]
        return next(iter([*named, *given]), None)


def _is_table(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim == 2 and are_whole_numbers(value)


def are_whole_numbers(tensor: Tensor) -> bool:
    """Return whether a tensor's numbers are whole, whatever they mean."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same ids."""
    return one is other or (
        one.shape == other.shape and one.device == other.device and bool(torch.equal(one, other))
    )


class Copies:
    """Copies of the ids and masks of one pass: a module may change them in place.

    A tensor that several calls of the pass are given is copied once, unless it changed meanwhile.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Tensor, int, Tensor]] = {}

    def of(self, value: object) -> object:
        """Return a copy of a tensor of ids or a mask, and of those in a mapping; others as is."""
        if isinstance(value, Mapping):
            items = cast("Mapping[str, object]", value).items()
            return {key: self.of(one) if isinstance(one, Tensor) else one for key, one in items}
        if not isinstance(value, Tensor) or value.ndim > 2 or value.requires_grad:
            return value
        if value.is_inference():  # torch does not count changes of these
            return value.detach().clone()
        made = self._made.get(id(value))
        if made is None or made[0] is not value or made[1] != value._version:
            made = value, value._version, value.detach().clone()
            self._made[id(value)] = made
        return made[2]


class Signature:
    """Binds calls of one module."""

    def __init__(self, module: nn.Module) -> None:
        self._signature = _signature(module)

    @property
    def names(self) -> frozenset[str]:
        """Names of the arguments."""
        return frozenset(self._signature.parameters)

    def takes(self, name: str) -> bool:
        """Return whether a call may give an argument of this name, or with a part of it."""
        kinds = [parameter.kind for parameter in self._signature.parameters.values()]
        return name.partition(".")[0] in self.by_name or _KINDS.VAR_KEYWORD in kinds

    @property
    def takes_ids(self) -> bool:
        """Whether the module takes ``input_ids``."""
        return _IDS in self._signature.parameters

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the arguments that a call must give, in their order."""
        kinds = (_KINDS.VAR_KEYWORD, _KINDS.VAR_POSITIONAL)
        return tuple(
            name
            for name, parameter in self._signature.parameters.items()
            if parameter.default is _KINDS.empty and parameter.kind not in kinds
        )

    @property
    def by_name(self) -> tuple[str, ...]:
        """Names of the arguments that may be given by name, in their order."""
        kinds = (_KINDS.POSITIONAL_OR_KEYWORD, _KINDS.KEYWORD_ONLY)
        return tuple(n for n, p in self._signature.parameters.items() if p.kind in kinds)

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Arguments:
        """Name the arguments of a call.

        Where a call does not fit the signature, those given by position have numbers for names.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # the module will say so itself, or takes them in another way
            numbered = {str(i): value for i, value in enumerate(args)}
            return self._arguments({**numbered, **kwargs})
        named: dict[str, object] = {}
        for name, value in bound.arguments.items():
            kind = self._signature.parameters[name].kind
            if kind is _KINDS.VAR_KEYWORD:
                named |= cast("dict[str, object]", value)
            elif kind is _KINDS.VAR_POSITIONAL:
                named |= {f"{name}.{i}": v for i, v in enumerate(cast("tuple[object]", value))}
            else:
                named[name] = value
        return self._arguments(named)

    def _arguments(self, named: dict[str, object]) -> Arguments:
        return Arguments(named=_opened(named), ids_by_name=self.takes_ids)


def _opened(named: dict[str, object]) -> dict[str, object]:
    """Take the arguments out of a batch that is given as one mapping."""
    if isinstance(named.get(_IDS), Tensor):
        return named
    for value in named.values():
        if isinstance(value, Mapping) and _IDS in value:
            return {**named, **cast("Mapping[str, object]", value)}
    return named


def _signature(module: nn.Module) -> inspect.Signature:
    try:
        found = inspect.signature(module.forward)
    except (TypeError, ValueError):  # a forward that is not written in Python
        kinds = {"args": _KINDS.VAR_POSITIONAL, "kwargs": _KINDS.VAR_KEYWORD}
        return inspect.Signature([_KINDS(name, kind) for name, kind in kinds.items()])
    parameters = list(found.parameters.values())
    if parameters and parameters[0].name == "self":  # what a library put in its place wraps no
        found = found.replace(parameters=parameters[1:])  # method but a function (nnsight)
    variable = (_KINDS.VAR_POSITIONAL, _KINDS.VAR_KEYWORD)
    if all(parameter.kind in variable for parameter in found.parameters.values()):
        inside = list(module.children())
        if len(inside) == 1:
            return _signature(inside[0])
    return found
