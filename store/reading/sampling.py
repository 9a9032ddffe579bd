"""What is drawn in structured sampling: groups of neighbouring rows, strata, weights. Values only.

A *unit* is what is drawn at once: ``length`` rows of one document, each ``distance`` positions
behind the one before. One row is a unit of length 1, a window of n neighbouring tokens one of
length n, a pair at distance d one of length 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr

StratumColumn = Literal["token_id", "position", "group"]
"""By what rows fall into strata: their token, their position, or the group of their document."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StratumShares:
    """Shares of the draws, by the stratum of a unit's first row."""

    column: StratumColumn
    """What decides about the stratum."""

    shares: Mapping[int, float] | Mapping[str, float]
    """Share of the draws by stratum, in any unit: 1 and 3 are a quarter and three quarters. Its key
    is a token id; the first position of a band, which ends where the next one begins; or the group
    of a document."""

    other: float = 0.0
    """Share of all rows that are in none of these, together; with 0 they are left out."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        keys: list[object] = list(self.shares)
        wanted = (str,) if self.column == "group" else (int, np.integer)
        if not keys or not all(isinstance(key, wanted) for key in keys):
            raise InvalidInput(
                f"shares by {self.column} have the keys {keys!r}; wanted at least one "
                f"{wanted[0].__name__}, and nothing else"
            )
        shares = [*self.shares.values(), self.other]
        if not np.isfinite(shares).all() or min(shares) < 0 or sum(shares) == 0:
            raise InvalidInput(f"shares {shares} must be finite, not negative, and not all 0")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sampling:
    """Which units an epoch has, and how often each is drawn.

    Without strata and weights each unit is drawn once in an epoch. With them an epoch has as many
    draws as there are units of a positive weight; a unit is drawn several times, once or not at
    all, in proportion to its weight on average.
    """

    length: int = 1
    """Rows of a unit."""

    distance: int = 1
    """Positions from one row of a unit to the next."""

    stride: int = 1
    """Positions from the first row of a unit to that of the next unit of the document."""

    strata: StratumShares | None = None
    """Shares of the draws by stratum; within one, weights decide."""

    weights: NDArray[np.floating] | None = None
    """Weight of each row of the recording, ``[rows]``, not negative; a unit has that of its first
    row. None: all alike."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if min(self.length, self.distance, self.stride) < 1:
            raise InvalidInput(
                f"length {self.length}, distance {self.distance} and stride {self.stride} must be "
                "at least 1"
            )

    @classmethod
    def windows(
        cls,
        length: int,
        *,
        stride: int | None = None,
        strata: StratumShares | None = None,
        weights: NDArray[np.floating] | None = None,
    ) -> "Sampling":
        """Draw windows of neighbouring tokens.

        Args:
            length: tokens of a window.
            stride: positions from a window to the next of the document; by default ``length``: the
                windows do not overlap, and what is left over at a document's end is in none.
            strata: see :class:`Sampling`.
            weights: see :class:`Sampling`.

        Returns:
            The sampling.

        Raises:
            InvalidInput: a number is below 1.
        """
        step = length if stride is None else stride
        return cls(length=length, stride=step, strata=strata, weights=weights)

    @classmethod
    def pairs(
        cls,
        distance: int = 1,
        *,
        strata: StratumShares | None = None,
        weights: NDArray[np.floating] | None = None,
    ) -> "Sampling":
        """Draw all pairs of rows at one distance within a document, each once.

        Args:
            distance: positions from the first row of a pair to the second.
            strata: see :class:`Sampling`.
            weights: see :class:`Sampling`.

        Returns:
            The sampling.

        Raises:
            InvalidInput: ``distance`` is below 1.
        """
        return cls(length=2, distance=distance, strata=strata, weights=weights)

    @property
    def span(self) -> int:
        """Positions from a unit's first row to its last, both counted."""
        return (self.length - 1) * self.distance + 1

    @property
    def is_weighted(self) -> bool:
        """Whether some units may be drawn more often than others."""
        return self.strata is not None or self.weights is not None
