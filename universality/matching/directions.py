"""What the weights of two dictionaries say: cosines of directions, where both read one space.

Cosines are taken where the widths agree. Two models of one width still have spaces of their own, so
a cosine says something only beside its null: the second dictionary turned by random rotations.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import ShapeError
from isogloss.universality.correlation.assignment import assign

ROTATIONS = 3
"""Draws of the null of the matched cosine."""

DENSE_FEATURES = 4096
"""At most so many features on the larger side: all cosines are held, 340 MB."""

_CANDIDATES = 16
_BLOCK = 1024

DirectionRows = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Directions:
    """The weights of a dictionary as directions, ``[features, width]``, finite."""

    decoder: DirectionRows
    """What each feature writes."""
    encoder: DirectionRows | None = None
    """What each feature reads; None: the kind has no such matrix."""

    def __post_init__(self) -> None:
        shapes = [self.decoder.shape, *([] if self.encoder is None else [self.encoder.shape])]
        if any(len(shape) != 2 for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
            raise ShapeError(f"directions {shapes} must be [features, width], of equal features")


@dataclass(frozen=True, kw_only=True)
class MatchedCosine:
    """Mean cosine of decoder rows matched one to one (PW-MCC of Song et al., arXiv 2505.20254)."""

    value: float
    """Over as many pairs as the smaller dictionary has features; one without a partner of cosine
    above 0 counts as 0."""
    null: float
    """The same with the second decoder turned by a random rotation: mean of ``ROTATIONS`` draws."""
    null_spread: float
    """Standard deviation of these draws."""


def pair_cosines(
    a: DirectionRows | None,
    b: DirectionRows | None,
    of_a: NDArray[np.integer],
    of_b: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Return the cosine of given pairs of directions; NaN where there is none.

    Args:
        a: directions of the first dictionary, ``[features_a, width_a]``; None: unknown.
        b: directions of the second.
        of_a: rows of ``a``, ``[pairs]``.
        of_b: rows of ``b``, ``[pairs]``.
    """
    if a is None or b is None or a.shape[1] != b.shape[1]:
        return np.full(len(of_a), np.nan)
    one, other = (side.astype(np.float64) for side in (a[of_a], b[of_b]))
    scale = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    product = np.einsum("ij,ij->i", one, other)
    return np.divide(product, scale, out=np.full(len(of_a), np.nan), where=scale > 0)


def matched_cosine(a: DirectionRows, b: DirectionRows, *, seed: int = 0) -> MatchedCosine | None:
    """Match decoder rows one to one by cosine, beside random rotations of the second.

    Above ``DENSE_FEATURES`` features each row's 16 best are candidates; the others could only be
    taken where all of these are.

    Args:
        a: decoder of the first dictionary, ``[features_a, width_a]``.
        b: decoder of the second.
        seed: the rotations are a pure function of it.

    Returns:
        The mean cosine and its null; None where the widths differ.
    """
    if a.shape[1] != b.shape[1]:
        return None
    one, other = _unit(a), _unit(b)
    random = np.random.default_rng([0x726F74, seed])
    null = [
        _mean_matched(one, (other @ _rotation(random, b.shape[1])).astype(np.float32))
        for _ in range(ROTATIONS)
    ]
    return MatchedCosine(
        value=_mean_matched(one, other),
        null=float(np.mean(null)),
        null_spread=float(np.std(null, ddof=1)),
    )


def _mean_matched(a: DirectionRows, b: DirectionRows) -> float:
    return float(assign(_scores(a, b)).score.sum() / max(min(len(a), len(b)), 1))


def _scores(a: DirectionRows, b: DirectionRows) -> sp.csr_array:
    """Return positive cosines: all, or of each row the largest where there are many features."""
    count = len(b) if max(len(a), len(b)) <= DENSE_FEATURES else min(_CANDIDATES, len(b))
    blocks: list[sp.csr_array] = []
    for start in range(0, len(a), _BLOCK):
        cosines = np.clip(a[start : start + _BLOCK] @ b.T, 0.0, 1.0).astype(np.float64)
        if count < len(b):
            bar = np.partition(cosines, len(b) - count, axis=1)[:, len(b) - count, None]
            cosines[cosines < bar] = 0.0
        blocks.append(sp.csr_array(cosines))
    return sp.csr_array(sp.vstack(blocks, format="csr"))


def _unit(rows: DirectionRows) -> DirectionRows:
    norm = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.maximum(norm, 1e-30)).astype(np.float32)


def _rotation(random: np.random.Generator, width: int) -> NDArray[np.float64]:
    q, r = np.linalg.qr(random.standard_normal((width, width)))
    return q * np.sign(np.diag(r))
