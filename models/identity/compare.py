"""What two sketches of weights say of their models: the same, descended, or another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from isogloss.models.identity.sketch import Samples, WeightSketch

IdentityAnswer = Literal["same", "descended", "other", "unknown"]

_DESCENDED = 0.9
"""Correlation of samples from which one model descends from the other. Unrelated models show 0 with
a deviation of 1 / sqrt(samples): 0.03 with 100 tensors."""
_LEAST = 24
"""Samples that a correlation wants."""
_COARSER: tuple[type, ...] = (ml_dtypes.bfloat16, np.float16)
_MISSING = 0.1
"""Share of the tensors that may be missing on one side, and two at least: heads, poolers."""
_PARTED, _MOVED = 3, 4
"""Shapes whose tensors moved apart, and those whose tensors all moved up, from which a layer was
taken out or put in. Heads and poolers that are missing move tensors of fewer shapes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Whether a model is the one that is meant."""

    answer: IdentityAnswer
    """``same``: the same weights, cast or not; ``descended``: fine-tuned, quantised or adapted;
    ``other``: neither; ``unknown``: there is nothing to compare."""
    identical: float
    """Share of the tensors that are the same numbers, after a cast to the coarser dtype."""
    correlation: float
    """Of the sampled numbers, each tensor's centred and scaled."""
    why: str
    """What was found, for people."""


@dataclass(slots=True)
class _Count:
    """What is known after all tensors were compared."""

    pairs: int = 0
    equal: int = 0
    missing: int = 0
    parted: int = 0
    moved: int = 0
    lost_table: bool = False
    flattened: int = 0
    products: float = 0.0
    ours: float = 0.0
    theirs: float = 0.0
    samples: int = 0

    @property
    def correlation(self) -> float:
        norm = float(np.sqrt(self.ours * self.theirs))
        return self.products / norm if norm > 0 else 0.0


def compare_weights(meant: WeightSketch, found: WeightSketch) -> Identity:
    """Compare the weights of a model with those that are meant.

    Args:
        meant: such as those on which a dictionary was trained.
        found: of the live model; all its tensors, where it is at hand.

    Returns:
        The answer, with its reasons.
    """
    count = _Count()
    for shape, tensors in meant.tensors.items():
        _compare_shape(tensors, found.tensors.get(shape, {}), meant.counts[shape], shape, count)
    stored = sum(len(tensors) for tensors in meant.tensors.values())
    allowed = max(2, int(_MISSING * stored)) + found.unread + meant.unread
    identical = count.equal / count.pairs if count.pairs else 0.0
    correlation = count.correlation if count.samples >= _LEAST else identical
    answer, why = _answer(meant, found, count, allowed)
    said = (
        f"{why}: {count.equal} of {count.pairs} tensors hold the same numbers, correlation "
        f"{correlation:.2f}, {count.missing} of {stored} tensors are missing"
    )
    return Identity(answer=answer, identical=identical, correlation=correlation, why=said)


def _answer(
    meant: WeightSketch, found: WeightSketch, count: _Count, allowed: int
) -> tuple[IdentityAnswer, str]:
    if meant.folded != found.folded and meant.counts and found.counts:
        which = "the live model's" if found.folded else "the recorded model's"
        return "other", f"norms are folded into {which} weights, or these are centred"
    if count.flattened:
        return "other", f"{count.flattened} norms or biases were folded into other weights"
    if not count.pairs:
        if not meant.counts or not found.counts:
            return "unknown", "there are no weights to compare"
        return "other", "no tensor has a shape that the other model has"
    if count.missing > allowed:
        return "other", "too many tensors of the recorded model are missing"
    is_all_read = not (found.unread or meant.unread)
    if is_all_read and (count.parted >= _PARTED or count.parted + count.moved >= _MOVED):
        return "other", "layers were taken out or put in before others"
    is_equal = count.equal == count.pairs
    if is_equal and not (found.unread or found.adapted or count.lost_table):
        return "same", "the same weights"
    if is_equal:
        return "descended", "quantised, adapted or resized"
    if count.samples >= _LEAST and count.correlation >= _DESCENDED:
        return "descended", "changed weights"
    return "other", "other weights"


def _compare_shape(
    meant: Mapping[int, Samples],
    found: Mapping[int, Samples],
    recorded: int,
    shape: str,
    count: _Count,
) -> None:
    """Pair tensors of one shape by their order, or by their numbers where that fails."""
    shifts: list[int] = []
    for place, one in meant.items():
        at: int | None = place if place in found and _same(one, found[place]) else None
        if at is None and len(found) != recorded:
            at = next((n for n, other in found.items() if _same(one, other)), None)
        if at is not None and np.ptp(one.values) > 0:
            shifts.append(place - at)
        own = found.get(place) if at is None else found[at]
        if own is None:
            count.missing += 1
            count.lost_table |= "x" in shape and not found
            continue
        here = ~(np.isnan(one.values) | np.isnan(own.values))
        if not here.any() or _says_nothing(one.values[here], own.values[here]):
            continue
        count.pairs += 1
        count.equal += _same(one, own)
        if np.ptp(own.values[here]) == 0 < np.ptp(one.values[here]):
            count.flattened += 1  # no training does that
        if np.ptp(one.values[here]) > 0:  # else it was as it was made: nothing to correlate with
            _correlate(one.values[here], own.values[here], count)
    is_parted = bool(shifts) and max(shifts) > min(shifts)
    count.parted += is_parted
    count.moved += bool(shifts) and not is_parted and shifts[0] > 0


def _says_nothing(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Return whether a tensor is as it was made: all ones, or all zeros, in both models."""
    return bool((a == a[0]).all() and (b == a[0]).all())


def _correlate(a: NDArray[np.float32], b: NDArray[np.float32], count: _Count) -> None:
    wide = [values.astype(np.float64) - values.mean() for values in (a, b)]
    ours, theirs = (values / max(float(np.sqrt(np.mean(values**2))), 1e-30) for values in wide)
    count.products += float((ours * theirs).sum())
    count.ours += float((ours**2).sum())
    count.theirs += float((theirs**2).sum())
    count.samples += len(a)


def _same(a: Samples, b: Samples) -> bool:
    """Return whether two tensors hold the same numbers, up to a cast of one of them.

    One that was cast to a coarser dtype holds numbers of that dtype, whatever it is stored in.
    """
    here = ~(np.isnan(a.values) | np.isnan(b.values))
    ours, theirs = a.values[here], b.values[here]
    if not len(ours) or "q" in (a.dtype, b.dtype):
        return False
    if np.array_equal(ours, theirs):
        return True
    casts = [(_cast(ours, dtype), _cast(theirs, dtype)) for dtype in _COARSER]
    cast = [np.array_equal(ours, o) or np.array_equal(theirs, t) for o, t in casts]
    if any(is_cast and np.array_equal(o, t) for is_cast, (o, t) in zip(cast, casts, strict=True)):
        return True
    if not all(cast):
        return False
    # each was rounded, to another dtype, from numbers that are not known
    bound = 2.0**-8 * np.maximum(np.abs(ours), np.abs(theirs)) + 2.0**-24
    return bool((np.abs(ours - theirs) <= bound).all())


def _cast(values: NDArray[np.float32], dtype: type) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(dtype).astype(np.float32)
