"""SHARED_INIT: two dictionaries that began from the same weights, in whatever order.

Features that start equal keep similar decoder rows whatever they learn, so similar decoders then
say nothing about universality. Signs are looked for where rows of one index belong together, and,
since a published dictionary may have been sorted, pruned or shifted, wherever they lie.
"""

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.universality.matching.cautions import Caution
from isogloss.universality.matching.pairs import Pairs

_ALIGNED_SHARE = 0.05
_ALIGNED_LEAST = 5

_ERRORS = 6.0
"""Standard errors above chance from which rows of one index are alike."""

_ROTATIONS = 24
"""Draws of the null; its spread is then known to a seventh."""

_SPREADS = 8.0
"""Standard deviations of the null's draws above their mean from which matched rows are alike."""

_SAMPLE = 512
"""Rows of the first decoder that are matched with all of the second."""

_LEAST_ROWS = 8

DecoderRows = NDArray[np.floating]


def shared_init(
    *,
    hash_a: str = "",
    hash_b: str = "",
    decoder_a: DecoderRows | None = None,
    decoder_b: DecoderRows | None = None,
    same_space: bool = False,
) -> Caution | None:
    """Return a caution when two dictionaries began from the same weights.

    There are three signs of a common start. The hashes of the decoders before training are equal;
    decoder rows of the *same index* are more alike than rows of different index, by six standard
    errors; or the best partner of a row among all rows of the other decoder is closer than under
    random rotations of that decoder, by eight standard deviations.

    Args:
        hash_a: hash of the first dictionary's decoder before training; "" when unknown.
        hash_b: hash of the second dictionary's decoder before training; "" when unknown.
        decoder_a: trained decoder of the first dictionary, ``[features_a, width_a]``; None: not
            compared.
        decoder_b: trained decoder of the second, ``[features_b, width_b]``. Decoders of different
            width had no common start.
        same_space: both read activations of one model, or of related ones. What they learned makes
            decoders alike there in any order, so only equal hashes and rows of one index are signs.

    Returns:
        A caution that names the sign; None when there is no sign, also when nothing could be
        compared.

    Raises:
        ShapeError: a decoder is not two-dimensional.
        InvalidInput: a decoder has rows that are not finite.
    """
    if hash_a and hash_a == hash_b:
        return Caution(
            code="SHARED_INIT",
            message=(
                "Both dictionaries started from the same initial decoder (equal hashes). Their "
                "decoder rows are alike for that reason alone; train one with another seed."
            ),
            value=1.0,
        )
    if decoder_a is None or decoder_b is None:
        return None
    _check_decoders(decoder_a, decoder_b)
    if decoder_a.shape[1] != decoder_b.shape[1]:
        return None
    a, b = _unit_rows(decoder_a), _unit_rows(decoder_b)
    return _aligned(a, b) or (None if same_space else _rotated(a, b))


def aligned_pairs(pairs: Pairs, features_a: int, features_b: int) -> Caution | None:
    """Return a caution when matched features have the same index far more often than by chance.

    The number of a feature means nothing, so pairs chosen by activations agree in it once in
    ``features`` pairs. More agreement means that the dictionaries began from the same weights.

    Args:
        pairs: the mutual pairs.
        features_a: how many features the first dictionary has.
        features_b: how many features the second dictionary has.

    Returns:
        A caution; None when equal indices are no more frequent than by chance.
    """
    if features_a != features_b or not len(pairs):
        return None
    equal = int((pairs.feature_a == pairs.feature_b).sum())
    share = equal / len(pairs)
    expected = len(pairs) / features_a
    if equal < _ALIGNED_LEAST or share < _ALIGNED_SHARE or equal < 10 * expected:
        return None
    return Caution(
        code="SHARED_INIT",
        message=(
            f"{equal} of {len(pairs)} matched pairs ({share:.0%}) have the same index in both "
            f"dictionaries; chance gives {expected:.1f}. They started from the same weights, or "
            "one continues the other, so they are not two independent witnesses."
        ),
        value=share,
    )


def _check_decoders(decoder_a: DecoderRows, decoder_b: DecoderRows) -> None:
    if decoder_a.ndim != 2 or decoder_b.ndim != 2:
        found = f"{decoder_a.shape} and {decoder_b.shape}"
        raise ShapeError(f"decoders {found} must both be [features, width]")
    for name, decoder in (("first", decoder_a), ("second", decoder_b)):
        odd = np.flatnonzero(~np.isfinite(decoder).all(axis=1))
        if odd.size:
            raise InvalidInput(
                f"the {name} decoder has {odd.size} rows that are not finite, such as that of "
                f"feature {odd[0]}; its training diverged: train it again"
            )


def _aligned(a: NDArray[np.float32], b: NDArray[np.float32]) -> Caution | None:
    """Compare rows of one index with rows of different index, from eight cyclic shifts."""
    features = len(a)
    if a.shape != b.shape or features < _LEAST_ROWS:
        return None
    shifts = np.unique(np.linspace(1, features - 1, 8).astype(np.int64))
    apart = np.array([(a * np.roll(b, shift, axis=0)).sum(axis=1) for shift in shifts], np.float64)
    aligned = float((a * b).sum(axis=1).mean(dtype=np.float64))
    # rows that share a direction are alike at any index, so a row's own mean is taken off
    noise = float((apart - apart.mean(axis=0)).std() / np.sqrt(features))
    above = aligned - float(apart.mean())
    if above <= 0 or above < _ERRORS * noise:
        return None
    return Caution(
        code="SHARED_INIT",
        message=(
            f"Decoder rows of the same index have mean cosine {aligned:.3f}, rows of different "
            f"index {apart.mean():.3f} ({_times(above, noise)} standard errors): the dictionaries "
            "started from the same weights, or one continues the other. Do not read decoder "
            "similarity as universality."
        ),
        value=above,
    )


def _rotated(a: NDArray[np.float32], b: NDArray[np.float32]) -> Caution | None:
    """Compare the cosines of best partners with those under random rotations of a decoder."""
    if min(len(a), len(b)) < _LEAST_ROWS or a.shape[1] < 2:
        return None
    generator = np.random.default_rng(0)
    rows = a[np.sort(generator.permutation(len(a))[:_SAMPLE])]
    # rows = basis coordinates, so a random basis of the same size rotates them
    _, triangle = np.linalg.qr(rows.T.astype(np.float64))
    coordinates = triangle.T
    observed = _best_partner(rows, b)
    draws: list[float] = []
    for _ in range(_ROTATIONS):
        gaussian = generator.standard_normal((a.shape[1], coordinates.shape[1]))
        basis, triangle = np.linalg.qr(gaussian)
        basis *= np.sign(np.diag(triangle))
        draws.append(_best_partner((coordinates @ basis.T).astype(np.float32), b))
    chance, spread = float(np.mean(draws)), float(np.std(draws, ddof=1))
    above = observed - chance
    if above <= 0 or above < _SPREADS * spread:
        return None
    return Caution(
        code="SHARED_INIT",
        message=(
            f"The best partner of a decoder row in the other dictionary has mean cosine "
            f"{observed:.3f}; under random rotations {chance:.3f} ({_times(above, spread)} "
            "standard deviations). The dictionaries started from the same weights, if in another "
            "order, or their models are related. Do not read decoder similarity as universality."
        ),
        value=above,
    )


def _best_partner(rows: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Return the mean over rows of the largest cosine with any other."""
    best = np.full(len(rows), -np.inf, np.float32)
    for start in range(0, len(others), 16_384):
        np.maximum(best, (rows @ others[start : start + 16_384].T).max(axis=1), out=best)
    return float(best.mean(dtype=np.float64))


def _times(above: float, noise: float) -> str:
    return f"{above / noise:.0f}" if noise > 0 else "beyond all"


def _unit_rows(rows: DecoderRows) -> NDArray[np.float32]:
    """Scale rows to norm 1; rows of zeros stay."""
    wide = rows.astype(np.float64)
    norm = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.maximum(norm, 1e-12)).astype(np.float32)
