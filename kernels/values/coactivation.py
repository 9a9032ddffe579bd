"""Results of co-activation: sums of features, sums of pairs, and the best partners."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.kernels.values.codes import Codes
from isogloss.short_repr import short_repr

Measure = Literal["pearson", "jaccard"]
"""How two features are compared."""

PART_BITS = 10
"""A power of two: a feature with more entries is summed in parts, on every device alike."""

_PARTS_BYTES = 256 << 20
"""Sums of parts that a device holds at most: 12 bytes for a part and a feature of the other."""

_CONSTANT = 1e-12
"""A feature whose variance is below this share of its mean square is constant: it has no r."""


def pair_part_bits(entries: int, features_b: int) -> int:
    """Choose how many entries of a feature are summed one after another, as a power of two.

    A feature that fires on most rows would else keep one program busy when all others are done. The
    entries of a dictionary, sorted by feature, are cut at the multiples of that number; a feature
    with more entries is summed from cut to cut, by rows, and its parts are added in order. Every
    device does so: they agree to the bit.

    Args:
        entries: of the one dictionary.
        features_b: features of the other.

    Returns:
        The exponent: at least ``PART_BITS``, and so large that the sums of all parts fit.
    """
    most = max(1, _PARTS_BYTES // (12 * features_b))
    return max(PART_BITS, (entries // most).bit_length())


def moment_part(rows: int) -> int:
    """Entries of a feature that are summed one after another for its moments: at most 128 parts."""
    return max(1 << PART_BITS, -(-rows // MOMENT_PARTS))


MOMENT_PARTS = 128
"""Parts in which the moments of a feature are summed at most; added in order, on every device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureMoments:
    """Sums of every feature over the rows, in the order of the rows."""

    rows: int
    """How many rows were summed."""
    total: Tensor
    """Σa, float64 ``[features]``."""
    squares: Tensor
    """Σa², float64 ``[features]``."""
    fires: Tensor
    """Rows on which the feature is not 0, int64 ``[features]``."""

    __repr__ = short_repr

    @property
    def inverse_spread(self) -> Tensor:
        """1 / √(n Σa² - (Σa)²), float64 ``[features]``; 0 where the feature is constant."""
        mean_square = self.rows * self.squares
        variance = mean_square - self.total**2
        varies = variance > _CONSTANT * mean_square
        return torch.where(varies, variance, 1.0).sqrt().reciprocal() * varies


@dataclass(frozen=True, kw_only=True, slots=True)
class Coactivation:
    """For every feature of one dictionary: its best partners in another, and the moments."""

    indices: Tensor
    """Best partners, by their number, int32 ``[features_a, count]``; -1 where a feature has fewer.
    """
    scores: Tensor
    """Their Pearson r or Jaccard index, float64 ``[features_a, count]``, descending; 0 for none."""
    cofires: Tensor
    """Rows on which both are not 0, int32 ``[features_a, count]``; 0 for none."""
    moments_a: FeatureMoments
    """Sums of the features of the one."""
    moments_b: FeatureMoments
    """Sums of the features of the other."""

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSums:
    """Sums over the rows for a block of features of one dictionary with all of another."""

    first: int
    """Feature of the one dictionary that the first row of the block belongs to."""
    products: Tensor
    """Σab, float64 ``[block, features_b]``."""
    cofires: Tensor
    """Rows on which both are not 0, int32 ``[block, features_b]``."""

    __repr__ = short_repr


def refuse_repeats(repeated: tuple[int, int] | None, name: str, codes: Codes) -> None:
    """Raise InvalidInput where a (row, feature) was found twice."""
    if repeated is not None:
        row, feature = repeated
        raise InvalidInput(
            f"{name} name feature {feature} of {codes.features} twice on row {row}; a feature has "
            "one activation on a row: add the entries up"
        )
