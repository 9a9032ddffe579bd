"""Co-activation: for two dictionaries, the features that fire on the same rows, and how alike."""

from collections.abc import Iterator

import torch

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import cpu, gpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.values.coactivation import Coactivation, FeatureMoments, Measure, PairSums
from isogloss.kernels.values.codes import Codes


def coactivation(
    codes_a: Codes,
    codes_b: Codes,
    *,
    count: int = 1,
    measure: Measure = "pearson",
    min_cofires: int = 0,
) -> Coactivation:
    """Find the ``count`` best partners of every feature of ``codes_a`` among those of ``codes_b``.

    With n rows and every sum over them, exactly (products of float32 are exact in float64, and all
    sums are float64, in the order of the rows; over 1,024 entries of a feature in parts):

        pearson:  r = (n Σab - Σa Σb) / √((n Σa² - (Σa)²) (n Σb² - (Σb)²))
        jaccard:  rows on which both fire / rows on which either fires

    Partners have a score above 0; ties go to the lowest feature; where there are fewer than
    ``count`` the rest are -1 with score 0. Constant features have no partner by Pearson. A row
    costs the product of its numbers of entries; sums of a feature with all others exist only while
    it is compared, so that no ``[features_a, features_b]`` array does.

    Where no value is negative, features that never fire together have Σab = 0 and so r <= 0, and
    the CPU looks only at those that do. Where one is negative that does not hold, and every pair
    is looked at: exact too, but slower.

    Args:
        codes_a: of some rows; fixed ``k`` or ragged, at most one entry a feature and row.
        codes_b: of the same rows, by another dictionary (or the same).
        count: partners of each feature, in ``[1, features_b]``.
        measure: ``"pearson"`` or ``"jaccard"``.
        min_cofires: pairs that fire together on fewer rows are no partners.

    Returns:
        Partners, scores and common rows of every feature of ``codes_a``, and the sums of both
        sides.

    Raises:
        ShapeError: the codes cover a different number of rows, or a dtype or device does not fit.
        InvalidInput: an index or offset is out of range, a value not finite, a feature named twice
            on a row, or ``count``, ``measure`` or ``min_cofires`` not as above.
    """
    _check_pair(codes_a, codes_b)
    checks.whole(count=count, min_cofires=min_cofires)
    if not 1 <= count <= codes_b.features:
        raise InvalidInput(
            f"count is {count}; it must be in [1, {codes_b.features}], the features of codes_b"
        )
    if measure not in ("pearson", "jaccard"):
        raise InvalidInput(f"measure is {measure!r}; 'pearson' or 'jaccard' is wanted")
    if min_cofires < 0:
        raise InvalidInput(f"min_cofires is {min_cofires}; 0 or more is wanted")
    path = gpu.coactivation if takes_triton(codes_a.values) else cpu.coactivation
    return path.best_partners(codes_a, codes_b, count, measure, min_cofires)


def coactivation_blocks(codes_a: Codes, codes_b: Codes, *, block: int = 256) -> Iterator[PairSums]:
    """Yield Σab and the rows on which both fire, ``block`` features of ``codes_a`` at a time.

    For measures of your own. A block holds ``12 * block * codes_b.features`` bytes.

    Args:
        codes_a: as for :func:`coactivation`.
        codes_b: of the same rows.
        block: features of ``codes_a`` in one block, at least 1; the sums do not depend on it.

    Returns:
        An iterator over the blocks, by ascending feature of ``codes_a``. The codes are checked
        before the first block is asked for.

    Raises:
        ShapeError: as for :func:`coactivation`.
        InvalidInput: as for :func:`coactivation`, or ``block`` is below 1.
    """
    _check_pair(codes_a, codes_b)
    checks.whole(block=block)
    if block < 1:
        raise InvalidInput(f"block is {block}; at least 1 feature is wanted")
    path = gpu.coactivation if takes_triton(codes_a.values) else cpu.coactivation
    return path.pair_sums(codes_a, codes_b, block)


def feature_moments(codes: Codes) -> FeatureMoments:
    """Σa, Σa² and the number of firings of every feature, in float64.

    Args:
        codes: fixed ``k`` or ragged, at most one entry a feature and row.

    Returns:
        The sums of every feature.

    Raises:
        ShapeError: a dtype or device does not fit.
        InvalidInput: as for :func:`coactivation`.
    """
    _check("codes", codes)
    path = gpu.coactivation if takes_triton(codes.values) else cpu.coactivation
    return path.feature_moments(codes, "codes")


def _check_pair(codes_a: Codes, codes_b: Codes) -> None:
    _check("codes_a", codes_a)
    _check("codes_b", codes_b)
    if codes_a.rows != codes_b.rows:
        raise ShapeError(
            f"codes_a cover {codes_a.rows} rows and codes_b {codes_b.rows}; both must hold the "
            "same rows"
        )
    checks.one_device(codes_a=codes_a.values, codes_b=codes_b.values)


def _check(name: str, codes: Codes) -> None:
    checks.floating(**{f"values of {name}": codes.values})
    checks.one_device(values=codes.values, indices=codes.indices)
    checks.indices_within(codes.indices, codes.features)
    if codes.offsets is not None:
        checks.offsets_within(codes.offsets, codes.values.numel())
    if not bool(torch.isfinite(codes.values).all()):
        raise InvalidInput(f"{name} hold a value that is not finite; drop such rows before")
