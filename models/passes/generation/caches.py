"""What a cache of earlier passes tells: how long it is, and whether it still is what it was."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import cast
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from isogloss.models.passes.inputs import CACHES

_SAME, _SAME_HALF = 1e-4, 1e-2  # of the largest number: two sums of the same keys differ by less


@dataclass(frozen=True, kw_only=True, eq=False)
class CacheState:
    """A cache as it is at one moment. The cache itself is not kept alive."""

    tokens: int | None
    """How many tokens it holds; None: it does not tell (recurrent states)."""
    is_empty: bool
    """Whether it holds nothing of any token."""
    mark: Tensor | None
    """A number, or some, that change where anything that it holds changes; None: it holds nothing.
    """
    owner: "ReferenceType[object] | None"
    """The cache, if it is an object of its own and no tuple or list."""
    part: "ReferenceType[Tensor] | None"
    """A tensor in it: what is left of its identity where it is a tuple that each pass makes anew.
    """

    @property
    def is_alive(self) -> bool:
        """Whether a pass could still be given this cache."""
        found = self.owner or self.part
        return found is not None and found() is not None

    def is_of(self, other: "CacheState") -> bool:
        """Return whether both are states of one cache, whatever was done to it in between."""
        return _is_one(self.owner, other.owner) or _is_one(self.part, other.part)

    def is_like(self, other: "CacheState") -> bool:
        """Return whether both hold the same, as far as they tell."""
        one, two = self.mark, other.mark
        if one is None or two is None:
            return True
        if one.shape != two.shape or one.dtype != two.dtype:
            return False
        same = _SAME if one.dtype in (torch.float32, torch.float64) else _SAME_HALF
        two = two.to(one.device)
        return bool(((one - two).abs() <= same * one.abs().amax()).all())


def cache_state(cache: object) -> CacheState:
    """Return what a cache tells now.

    Args:
        cache: of transformers or TransformerLens, or tuples and lists of tensors.
    """
    tokens, mark = cached_tokens(cache), cache_mark(cache)
    keys = _last_keys(cache)
    part = keys if keys is not None else next(_tensors(_inner(cache)), None)
    return CacheState(
        tokens=tokens,
        is_empty=mark is None if tokens is None else tokens == 0,
        mark=mark,
        owner=None if isinstance(cache, tuple | list | dict | Tensor) else _weak(cache),
        part=None if part is None else ref(part),
    )


def cached_tokens(cache: object) -> int | None:
    """Return how many tokens a cache holds; None where it does not tell (recurrent states)."""
    count = getattr(cache, "get_seq_length", None)
    if callable(count):
        try:
            return index(cast("Callable[[], int]", count)())
        except (TypeError, ValueError):  # without attention, or (Reformer's) it counts no tokens
            return None
    keys = _last_keys(cache)
    return None if keys is None else keys.shape[_token_axis(cache)]


def cache_mark(cache: object) -> Tensor | None:
    """Return numbers that differ where the cache is of other sequences, or in another order.

    Of keys it is the sum over the tokens that the last layer holds, with another weight for each
    token; of states without keys the sum over all their numbers, weighted alike.

    Args:
        cache: of transformers or TransformerLens, or tuples and lists of tensors.

    Returns:
        ``[sequences, heads, width]`` of keys, ``[states]`` of others; None: it holds nothing yet.
    """
    keys = _last_keys(cache)
    if keys is not None:
        axis = _token_axis(cache)
        held = keys.shape[axis]  # fewer where a window slides, more where the cache is static
        count = min(cached_tokens(cache) or 0, held)
        return _weighted(keys.movedim(axis, -2)[..., :count, :]) if count else None
    states = [state for state in _states(_inner(cache)) if state.numel()]
    if not states or not any(bool(state.any()) for state in states):
        return None
    return torch.stack([_weighted(state.reshape(-1, 1))[0].cpu() for state in states])


def cache_in(output: object) -> object:
    """Return the cache that a module gives back beside its result; None: it gives none."""
    named = cast("Mapping[str, object]", output) if isinstance(output, Mapping) else {}
    for name in CACHES:
        found = named.get(name, getattr(output, name, None))
        if found is not None:
            return found
    if not isinstance(output, tuple | list):
        return None
    rest = [one for one in cast("Sequence[object]", output) if not isinstance(one, Tensor)]
    told = (one for one in rest if cached_tokens(one) is not None)
    return next(told, None)


def _weighted(numbers: Tensor) -> Tensor:
    """Return the sum over the last axis but one, each place with a weight of its own."""
    is_usual = numbers.dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    numbers = numbers.detach() if is_usual else numbers.detach().float()
    places = torch.arange(numbers.shape[-2], device=numbers.device, dtype=torch.float32)
    weights = (1.5 + places.mul(0.7).cos()).to(numbers.dtype)
    with torch.autocast(numbers.device.type, enabled=False):
        return torch.matmul(weights, numbers)


def _is_one(one: Callable[[], object] | None, other: Callable[[], object] | None) -> bool:
    found = None if one is None else one()
    return found is not None and other is not None and found is other()


def _weak(cache: object) -> "ReferenceType[object] | None":
    try:
        return ref(cache)
    except TypeError:  # a class with slots
        return None


def _token_axis(cache: object) -> int:
    return 1 if _entries(cache) is not None else -2


def _inner(cache: object) -> object:
    """Return the layers of a cache, where it has any."""
    inner = getattr(cache, "self_attention_cache", cache)
    return _entries(inner) or getattr(inner, "layers", inner)


def _entries(cache: object) -> Sequence[object] | None:
    """Return the layers of a cache of TransformerLens."""
    entries = getattr(cache, "entries", None)
    found = cast("Sequence[object]", entries) if isinstance(entries, list | tuple) else ()
    return found if found and hasattr(found[0], "past_keys") else None


def _last_keys(cache: object) -> Tensor | None:
    layers = _inner(cache)
    if not isinstance(layers, list | tuple):
        return None
    for layer in reversed(cast("Sequence[object]", layers)):
        keys = getattr(layer, "keys", getattr(layer, "past_keys", None))
        if isinstance(layer, tuple | list) and layer:
            keys = cast("Sequence[object]", layer)[0]
        if isinstance(keys, Tensor) and keys.ndim == 4:
            return keys
    return None


def _states(layers: object) -> list[Tensor]:
    """Return the tensors of the last layer that has any; of a list of tensors all of them."""
    if isinstance(layers, list | tuple):
        some = cast("Sequence[object]", layers)
        if not any(isinstance(one, Tensor) for one in some):
            return next((found for one in reversed(some) if (found := list(_tensors(one)))), [])
    return list(_tensors(layers))


def _tensors(held: object, depth: int = 3) -> Iterator[Tensor]:
    """Yield the floating-point tensors in lists, mappings and the attributes of objects."""
    if isinstance(held, Tensor):
        if held.is_floating_point():
            yield held
    elif depth and held is not None and not isinstance(held, str | int | float | bytes):
        if isinstance(held, list | tuple):
            inside = list(cast("Sequence[object]", held))
        elif isinstance(held, Mapping):
            inside = list(cast("Mapping[object, object]", held).values())
        else:
            inside = list(cast("Mapping[str, object]", getattr(held, "__dict__", {})).values())
        for one in reversed(inside):
            yield from _tensors(one, depth - 1)
