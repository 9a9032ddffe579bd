"""What a cache of earlier passes tells: how long it is, and whether it still is what it was."""

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor


def cached_tokens(cache: object) -> int | None:
    """Return how many tokens a cache holds; None where it does not tell (recurrent states)."""
    count = getattr(cache, "get_seq_length", None)
    if callable(count):
        try:
            return int(cast("Callable[[], int]", count)())
        except ValueError:  # of a model without attention
            return None
    keys = _last_keys(cache)
    return None if keys is None else keys.shape[_token_axis(cache)]


def cache_mark(cache: object, tokens: int) -> Tensor | None:
    """Return what the last layer keeps of the last token of each sequence.

    It depends on the whole of a sequence. So it differs where sequences were swapped, as beam
    search swaps them, or a cache was cut back and filled again.

    Args:
        cache: of transformers or TransformerLens, or tuples of keys and values.
        tokens: how many tokens it holds.

    Returns:
        A copy, ``[sequences, ...]``; None: the cache has no keys, or none yet.
    """
    keys = _last_keys(cache)
    if keys is None or keys.ndim != 4 or not tokens:
        return None
    axis = _token_axis(cache)
    held = keys.shape[axis]  # fewer where a window slides, more where the cache is static
    return keys.select(axis, min(tokens, held) - 1).detach().clone() if held else None


def _token_axis(cache: object) -> int:
    return 1 if _entries(cache) is not None else -2


def _entries(cache: object) -> Sequence[object] | None:
    """Return the layers of a cache of TransformerLens."""
    entries = getattr(cache, "entries", None)
    found = cast("Sequence[object]", entries) if isinstance(entries, list | tuple) else ()
    return found if found and hasattr(found[0], "past_keys") else None


def _last_keys(cache: object) -> Tensor | None:
    inner = getattr(cache, "self_attention_cache", cache)
    layers = _entries(inner) or getattr(inner, "layers", inner)
    if not isinstance(layers, list | tuple):
        return None
    for layer in reversed(cast("Sequence[object]", layers)):
        keys = getattr(layer, "keys", getattr(layer, "past_keys", None))
        if isinstance(layer, tuple | list) and layer:
            keys = cast("Sequence[object]", layer)[0]
        if isinstance(keys, Tensor) and keys.ndim == 4:
            return keys
    return None
