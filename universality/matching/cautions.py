"""Reasons to doubt a match, found from the numbers and said in plain sentences."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.universality.matching.pairs import Pairs

CODES = (
    "SHARED_INIT",
    "SHARED_ANCESTRY",
    "TOKEN_DRIVEN",
    "POSITIONAL",
    "FEW_FIRINGS",
    "FEW_PAIRS",
    "SMALL_PROBE",
)
"""Every code a caution can have."""

SHARED_R = 0.3
"""Pairs with at least this r on the report half are what cautions about pairs look at."""

_ALIGNED_SHARE = 0.05
_ALIGNED_LEAST = 5
_COSINE_ABOVE = 0.1
_MANY = 0.5
_PARTIAL_SMALL = 0.1
_POSITIONAL_SHARE = 0.1
_FEW_FIRINGS = 50
_FEW_PAIRS = 20
_FEW_DOCUMENTS = 30


@dataclass(frozen=True, kw_only=True)
class Caution:
    """One reason to doubt a match."""

    code: str
    """Kind of the reason: one of ``CODES``."""
    message: str
    """A sentence or two that say what was found and what it means."""
    value: float
    """The number that raised it."""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise InvalidInput(f"unknown caution {self.code!r}; use one of {', '.join(CODES)}")

    def to_dict(self) -> dict[str, str | float]:
        """Return the caution as JSON values."""
        return {"code": self.code, "message": self.message, "value": self.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Caution":
        """Rebuild from ``to_dict``."""
        return cls(
            code=str(values["code"]),
            message=str(values["message"]),
            value=float(str(values["value"])),
        )


def shared_init(
    *,
    hash_a: str = "",
    hash_b: str = "",
    decoder_a: NDArray[np.floating] | None = None,
    decoder_b: NDArray[np.floating] | None = None,
) -> Caution | None:
    """Return a caution when two dictionaries began from the same weights.

    Features that start equal keep similar decoder rows whatever they learn, so similar decoders
    then say nothing about universality. There are two signs of a common start. The hashes of the
    decoders before training are equal; or decoder rows of the *same index* are more alike than rows
    of different index.

    Args:
        hash_a: hash of the first dictionary's decoder before training; "" when unknown.
        hash_b: hash of the second dictionary's decoder before training; "" when unknown.
        decoder_a: trained decoder of the first dictionary, ``[features, width]``; None: not
            compared.
        decoder_b: trained decoder of the second. The decoders are compared only when their shapes
            are equal.

    Returns:
        A caution that names the sign; None when there is no sign, also when nothing could be
        compared.

    Raises:
        ShapeError: a decoder is not two-dimensional.
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
    if decoder_a.ndim != 2 or decoder_b.ndim != 2:
        found = f"{decoder_a.shape} and {decoder_b.shape}"
        raise ShapeError(f"decoders {found} must both be [features, width]")
    if decoder_a.shape != decoder_b.shape or len(decoder_a) < 2:
        return None
    aligned, chance, noise = _aligned_cosine(decoder_a, decoder_b)
    if aligned - chance < _COSINE_ABOVE or aligned - chance < 10 * noise:
        return None
    return Caution(
        code="SHARED_INIT",
        message=(
            f"Decoder rows of the same index have mean cosine {aligned:.2f}, rows of different "
            f"index {chance:.2f}: the dictionaries started from the same weights, or one continues "
            "the other. Do not read decoder similarity as universality."
        ),
        value=aligned - chance,
    )


def _aligned_cosine(
    decoder_a: NDArray[np.floating], decoder_b: NDArray[np.floating]
) -> tuple[float, float, float]:
    """Return mean cosine at equal index, at different index, and the standard error of the first.

    Different index is taken from eight cyclic shifts: the whole matrix is never formed.
    """
    a, b = _unit_rows(decoder_a), _unit_rows(decoder_b)
    features = len(a)
    shifts = np.unique(np.linspace(1, features - 1, 8).astype(np.int64))
    apart = np.concatenate([(a * np.roll(b, shift, axis=0)).sum(axis=1) for shift in shifts])
    aligned = float((a * b).sum(axis=1).mean())
    return aligned, float(apart.mean()), float(apart.std() / np.sqrt(features))


def _unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


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


def initial_after_matching(
    initial_a: NDArray[np.floating], initial_b: NDArray[np.floating], pairs: Pairs
) -> Caution | None:
    """Return a caution when two dictionaries began from the same weights, in whatever order.

    The features' order says nothing where a published dictionary was sorted or pruned. So this
    compares the rows of each matched pair in the decoders before training. Pairs are chosen by
    activations: unless the dictionaries had a common start, these rows are unrelated.

    Args:
        initial_a: decoder of the first dictionary before training, ``[features_a, width_a]``.
        initial_b: decoder of the second before training, ``[features_b, width_b]``. With another
            width there was no common start, and None is returned.
        pairs: the matched pairs of features.

    Returns:
        A caution that says how alike the rows are; None when they are no more alike than rows of
        features that were not matched, or when there are fewer than two pairs.

    Raises:
        ShapeError: a pair has a feature for which a decoder has no row.
    """
    if initial_a.ndim != 2 or initial_a.shape[1:] != initial_b.shape[1:] or len(pairs) < 2:
        return None
    for initial, feature in ((initial_a, pairs.feature_a), (initial_b, pairs.feature_b)):
        if int(feature.max()) >= len(initial):
            raise ShapeError(
                f"initial decoder has {len(initial)} rows and a pair has feature {feature.max()}; "
                "give the initial decoder of the same dictionary"
            )
    matched, chance, noise = _aligned_cosine(initial_a[pairs.feature_a], initial_b[pairs.feature_b])
    if matched - chance < _COSINE_ABOVE or matched - chance < 10 * noise:
        return None
    return Caution(
        code="SHARED_INIT",
        message=(
            f"Matched features had initial decoder rows of mean cosine {matched:.2f}; others have "
            f"{chance:.2f}. They match because they started alike."
        ),
        value=matched - chance,
    )


def shared_ancestry(*, related: bool, similarity: float, why: str) -> Caution | None:
    """Return a caution when the two models are related, such as by fine-tuning or distillation.

    Args:
        related: whether ``models.relatedness`` found the models related.
        similarity: the similarity that it measured.
        why: the reason that it gave.

    Returns:
        A caution, or None when the models are not related.
    """
    if not related:
        return None
    return Caution(
        code="SHARED_ANCESTRY",
        message=(
            f"The two models are related ({why}; similarity {similarity:.2f}). Features they share "
            "may be inherited, not found independently."
        ),
        value=similarity,
    )


def pair_cautions(
    pairs: Pairs, *, min_fires: int, documents: tuple[int, int], movable_token: float | None = None
) -> tuple[Caution, ...]:
    """Return the reasons to doubt a match that can be seen in its pairs.

    Args:
        pairs: the mutual pairs.
        min_fires: how often a feature must fire on the half that chooses pairs, to be compared.
        documents: how many documents the half that chooses pairs has, and the half that measures
            them.
        movable_token: share of the rows whose token also stands in another row; None when unknown.

    Returns:
        The cautions raised, in the order of ``CODES``.
    """
    shared = pairs.take(np.flatnonzero(pairs.r >= SHARED_R))
    found = [
        _token_driven(shared),
        _positional(shared),
        _few_firings(shared, min_fires),
        _few_pairs(shared),
        _small_probe(documents, movable_token),
    ]
    return tuple(caution for caution in found if caution is not None)


def _token_driven(shared: Pairs) -> Caution | None:
    if not len(shared):
        return None
    share = float((shared.token_null >= shared.r / 2).mean())
    known = shared.partial_token[np.isfinite(shared.partial_token)]
    median = float(np.median(known)) if known.size else 0.0
    if share < _MANY and median >= _PARTIAL_SMALL:
        return None
    return Caution(
        code="TOKEN_DRIVEN",
        message=(
            f"For {share:.0%} of the {len(shared)} pairs with r >= {SHARED_R} the token alone "
            f"gives at least half of r; among segments of the same token the median correlation "
            f"is {median:.2f}. Much of what is shared is which word stands there."
        ),
        value=share,
    )


def _positional(shared: Pairs) -> Caution | None:
    if not len(shared):
        return None
    share = float((shared.position_null >= shared.r / 2).mean())
    if share < _POSITIONAL_SHARE:
        return None
    return Caution(
        code="POSITIONAL",
        message=(
            f"For {share:.0%} of the {len(shared)} pairs with r >= {SHARED_R} the position in the "
            "document alone gives at least half of r: features of first words and the like."
        ),
        value=share,
    )


def _few_firings(shared: Pairs, min_fires: int) -> Caution | None:
    if not len(shared):
        return None
    least = max(min_fires, _FEW_FIRINGS)
    share = float((np.minimum(shared.fires_a, shared.fires_b) < least).mean())
    if share < _MANY:
        return None
    return Caution(
        code="FEW_FIRINGS",
        message=(
            f"In {share:.0%} of the {len(shared)} pairs with r >= {SHARED_R} a feature fires on "
            f"fewer than {least} segments of the report half: their correlations are uncertain. "
            "Use a larger probe."
        ),
        value=share,
    )


def _few_pairs(shared: Pairs) -> Caution | None:
    if len(shared) >= _FEW_PAIRS:
        return None
    return Caution(
        code="FEW_PAIRS",
        message=(
            f"Only {len(shared)} pairs reach r >= {SHARED_R}; shares and medians over fewer than "
            f"{_FEW_PAIRS} pairs say little."
        ),
        value=float(len(shared)),
    )


def _small_probe(documents: tuple[int, int], movable_token: float | None) -> Caution | None:
    if min(documents) < _FEW_DOCUMENTS:
        return Caution(
            code="SMALL_PROBE",
            message=(
                f"The halves of the probe hold {documents[0]} and {documents[1]} documents; "
                f"intervals over fewer than {_FEW_DOCUMENTS} documents are too narrow."
            ),
            value=float(min(documents)),
        )
    if movable_token is not None and movable_token < _MANY:
        return Caution(
            code="SMALL_PROBE",
            message=(
                f"Only {movable_token:.0%} of the segments share their token with another segment "
                "of their half. A token seen once explains itself, so the token null is too high "
                "and the partial correlation rests on few segments. Use a larger probe."
            ),
            value=movable_token,
        )
    return None
