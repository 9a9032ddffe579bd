"""From a padding mask of any form to which tokens are text.

A mask that cannot be read with certainty is refused by name: no row is better than a row of
padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models.passes.inputs import Arguments
from isogloss.models.passes.names import words

_KEEPS = ("attention_mask",)
_HIDES = ("src_key_padding_mask", "key_padding_mask")  # torch's own: True is padding
_UNSAID = ("padding_mask", "pad_mask", "input_mask", "mask")  # libraries differ in what True means
_FAR = -1e3  # what is added to hide a key is far below this, a bias is not
_REMEDY = "give attention_mask [sequences, tokens], 1 at tokens and 0 at padding"


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """Which tokens of a call are text."""

    keep: Tensor
    """False at padding, ``[sequences, tokens]``, on the CPU."""
    before: int
    """How many tokens before these the mask covers: those of earlier calls."""


def own_masks(arguments: Arguments, name: str, sizes: tuple[int, int]) -> Arguments:
    """Return the arguments of a call with the masks of some of its token ids alone.

    Masks are of the ids whose name they bear: ``tgt_key_padding_mask`` of ``tgt``. One that bears
    none is of the ids that it fits.

    Args:
        arguments: of the call.
        name: of the argument that holds the ids.
        sizes: how many sequences there are, and tokens in each.

    Raises:
        InvalidInput: of which ids a mask is cannot be told.
    """
    own = _stem(name)
    others = {
        n: t for n, t in arguments.tables.items() if n != name and _PARTS.isdisjoint(words(n))
    }
    tensors = [n for n, v in arguments.named.items() if isinstance(v, Tensor) and n != name]
    stems = {_stem(n) for n in tensors if "mask" not in words(n)}
    named = {n: value for n, value in arguments.named.items() if "mask" not in words(n)}
    for key, mask in arguments.named.items():
        stem = _stem(key)
        if key in named or mask is None:
            continue
        if stem and stem == own:
            called = "_".join(word for word in words(key) if not _stem(word) & stem)
            if called != "mask" or _is_table_of(mask, sizes, key):
                named[called] = mask
        elif stem and (stem in stems or (own and others)):
            continue  # of other ids, or of pictures
        elif not others or _is_of(mask, sizes, [tuple(t.shape) for t in others.values()], key):
            named[key] = mask
    return replace(arguments, named=named)


_PARTS = frozenset(("mask", "type", "position", "segment", "labels", "label", "targets"))
_PLAIN = _PARTS | frozenset(
    [
        "ids",
        "id",
        "input",
        "inputs",
        "token",
        "tokens",
        "attention",
        "padding",
        "key",
        "pad",
        "x",
        "idx",
        "part",
        "of",
        "embedding",
        "embeddings",
        "embed",
        "emb",
        "call",
    ]
)
_SAME_STEM = {"source": "src", "target": "tgt", "trg": "tgt", "encoder": "src", "decoder": "tgt"}


def _stem(name: str) -> frozenset[str]:
    """Return what a name says of whose ids or mask it is."""
    return frozenset(_SAME_STEM.get(word, word) for word in {*words(name)} - _PLAIN)


def _is_table_of(mask: object, sizes: tuple[int, int], name: str) -> bool:
    """Return whether a mask is ``[sequences, tokens]``, not ``[queries, keys]``."""
    if not isinstance(mask, Tensor) or mask.ndim != 2 or tuple(mask.shape) != sizes:
        return False
    if sizes[0] == sizes[1] and not bool((mask == mask[0, 0]).all()):
        raise InvalidInput(
            f"whether {name} {list(mask.shape)} is of sequences and tokens, or of queries and "
            f"keys, is not known; {_REMEDY}"
        )
    return True


def _is_of(
    mask: object, sizes: tuple[int, int], others: Sequence[tuple[int, ...]], name: str
) -> bool:
    """Return whether a mask that no name tells of is of the ids with these sizes."""
    if not isinstance(mask, Tensor) or mask.ndim != 2 or bool((mask == mask[0, 0]).all()):
        return True
    if tuple(mask.shape) == sizes and sizes in others:
        raise InvalidInput(
            f"of which token ids {name} {list(mask.shape)} is cannot be told; name it after them, "
            "such as tgt_key_padding_mask of tgt"
        )
    return tuple(mask.shape) not in others


def has_mask(arguments: Arguments) -> bool:
    """Return whether a call was given a padding mask."""
    return any(arguments.named.get(name) is not None for name in (*_KEEPS, *_HIDES, *_UNSAID))


def kept_tokens(
    arguments: Arguments, ids: Tensor, *, before: int | None, pad_id: int | None
) -> Kept:
    """Tell text from padding.

    Without a mask, a run of ``pad_id`` at either end of a sequence is padding, unless all of it is.

    Args:
        arguments: of the call.
        ids: token ids of the call, ``[sequences, tokens]``, on the CPU.
        before: how many tokens earlier calls left in a cache; None: not known.
        pad_id: id of padding; None: not known.

    Returns:
        Which tokens are kept.

    Raises:
        ShapeError: a mask does not fit the ids.
        InvalidInput: a mask hides more than padding, or does not say what it means.
    """
    for name in (*_KEEPS, *_HIDES, *_UNSAID):
        given = arguments.named.get(name)
        if given is None:
            continue
        mask = _tensor(given, name)
        if mask.ndim in (1, 2):
            return _flat(name, mask, ids, before=before, pad_id=pad_id)
        if name in _KEEPS:
            found = _square(name, mask, ids, before)
            if pad_id is not None and bool(found.keep.any()):
                kept = ids[found.keep]
                if bool((kept == pad_id).all()) and not bool((ids == pad_id).all()):
                    raise InvalidInput(
                        f"{name} {list(mask.shape)} keeps nothing but the padding id {pad_id}: "
                        f"True seems to hide; {_REMEDY}"
                    )
            return found
        raise ShapeError(_unfit(name, mask, ids))
    return Kept(keep=_without_padding(ids, pad_id), before=before or 0)


def _tensor(given: object, name: str) -> Tensor:
    if isinstance(given, Mapping):  # one mask for each kind of attention layer
        masks = cast("Mapping[str, object]", given)
        given = masks.get("full_attention", next(iter(masks.values()), None))
    if isinstance(given, Tensor) and given.ndim in (1, 2, 3, 4):
        return given.detach().cpu()
    raise InvalidInput(f"{name} is a {type(given).__name__}, which is not read; {_REMEDY}")


def _without_padding(ids: Tensor, pad_id: int | None) -> Tensor:
    if pad_id is None:
        return torch.ones_like(ids, dtype=torch.bool)
    other = ids != pad_id
    inside = (other.cumsum(1) > 0) & (other.flip(1).cumsum(1).flip(1) > 0)
    return inside | ~other.any(1, keepdim=True)


def _flat(name: str, mask: Tensor, ids: Tensor, *, before: int | None, pad_id: int | None) -> Kept:
    mask = mask[None] if mask.ndim == 1 else mask
    tokens = ids.shape[1]
    if len(mask) != len(ids) or mask.shape[1] < tokens:
        raise ShapeError(_unfit(name, mask, ids))
    # of a cache of fixed length the mask is as long as the cache will ever be
    if before is None or mask.shape[1] < before + tokens:
        before = mask.shape[1] - tokens
    keep, is_added = _two_values(name, mask)
    if name in _HIDES and not is_added:
        keep = ~keep
    if name in _KEEPS and is_added and bool(keep.all()) and not bool(mask.any()):
        raise InvalidInput(
            f"{name} holds zeros alone, as numbers that are added or as all padding; {_REMEDY}"
        )
    keep = keep[:, before : before + tokens]
    if name in _UNSAID:
        keep = _agreed(name, keep, ids, pad_id)
    return Kept(keep=keep, before=before)


def _agreed(name: str, marked: Tensor, ids: Tensor, pad_id: int | None) -> Tensor:
    """Return what is kept by a mask whose meaning its name does not tell."""
    if bool(marked.all()) or not bool(marked.any()):
        return torch.ones_like(marked)
    if pad_id is not None:
        if torch.equal(marked, ids != pad_id):
            return marked
        if torch.equal(marked, ids == pad_id):
            return ~marked
    raise InvalidInput(f"whether {name} marks tokens or padding is not known; {_REMEDY}")


def _two_values(name: str, mask: Tensor) -> tuple[Tensor, bool]:
    """Return where a mask holds its upper value, and whether it is one to be added to scores.

    The upper value is True, or 1 of 0 and 1, or 0 of 0 and very negative. Added masks keep there,
    whatever their name; of others the name says whether it marks tokens or padding.
    """
    if mask.dtype == torch.bool:
        return mask, False
    is_one, is_zero = mask == 1, mask == 0
    if bool((is_one | is_zero).all()) and (not mask.is_floating_point() or bool(is_one.any())):
        return is_one, False
    if mask.is_floating_point() and bool((is_zero | (mask <= _FAR)).all()):
        return is_zero, True
    low, high = mask.min().item(), mask.max().item()
    raise InvalidInput(
        f"{name} holds values from {low:g} to {high:g}, such as of packed texts or biases, wanted "
        f"0 and 1; {_REMEDY}"
    )


def _square(name: str, mask: Tensor, ids: Tensor, before: int | None) -> Kept:
    """Read a mask of queries and keys, where it says no more than a padding mask would."""
    sequences, tokens = ids.shape
    allowed, _ = _two_values(name, mask)
    if allowed.ndim == 4:
        if not bool((allowed == allowed[:, :1]).all()):
            raise InvalidInput(f"{name} {list(mask.shape)} differs between heads; {_REMEDY}")
        allowed = allowed[:, 0]
    if len(allowed) == 1:
        allowed = allowed.expand(sequences, -1, -1)
    fits = len(allowed) == sequences and allowed.shape[1] in (1, tokens)
    if not fits or allowed.shape[2] < tokens + (before or 0):
        raise ShapeError(_unfit(name, mask, ids))
    before = allowed.shape[2] - tokens if before is None else before
    allowed = allowed[:, :, : before + tokens].expand(-1, tokens, -1)
    keep = _padding_of(allowed, before)
    if keep is None:
        raise InvalidInput(
            f"{name} {list(mask.shape)} hides more than padding (packed texts, a window or a "
            f"prefix): which document a token belongs to is not known; {_REMEDY}"
        )
    return Kept(keep=keep, before=before)


def _padding_of(allowed: Tensor, before: int) -> Tensor | None:
    """Return the kept tokens if the mask is padding times causal or full attention.

    The row of a query of padding may be empty, and one that would see nothing may be open: so
    transformers avoids a softmax of nothing.

    Args:
        allowed: whether a query sees a key, ``[sequences, tokens, before + tokens]``.
        before: number of keys before the first query.

    Returns:
        ``[sequences, tokens]``; None: the mask is something else.
    """
    tokens = allowed.shape[1]
    keys = torch.arange(allowed.shape[2])
    causal = keys[None, :] <= before + torch.arange(tokens)[:, None]
    # under causal and full attention the last query that sees anything sees all that is kept
    which = (allowed.any(2) * torch.arange(1, tokens + 1)).argmax(1)
    last = allowed[torch.arange(len(allowed)), which]
    is_open = allowed.all(2).all(1)  # all padding: opened; or nothing is hidden
    for pattern in (torch.ones_like(causal), causal):
        keep = last[:, before:]
        seen = last[:, None, :] & pattern
        fits = (allowed == seen).all(2) | (~keep & ~allowed.any(2))
        fits |= ~keep & ~seen.any(2) & allowed.all(2)
        if bool(fits.all()):
            return keep
        if bool((fits.all(1) | is_open).all()):
            return keep & ~is_open[:, None]
    return None


def _unfit(name: str, mask: Tensor, ids: Tensor) -> str:
    return f"{name} {list(mask.shape)} does not fit the token ids {list(ids.shape)}; {_REMEDY}"
