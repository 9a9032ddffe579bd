"""Rows of known truth: sums of more directions than there are columns, a few at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from scipy.special import ndtri

from isogloss.dictionaries.settings import Settings
from isogloss.errors import InvalidInput

BLOCK_ROWS = 4096
"""Rows that are drawn together; a block is a pure function of the settings and its number."""
_MOST_OFTEN = 0.5
_CHILD_SHARE = 0.5


class PlantedBlock(NamedTuple):
    """Rows, and which planted features are in them."""

    rows: NDArray[np.float32]
    """``[BLOCK_ROWS, width]``."""
    fires: NDArray[np.bool_]
    """``[BLOCK_ROWS, features]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Superposition(Settings):
    """Rows ``x = sum_i a_i f_i d_i + noise``: what a dictionary should find is known.

    The directions d_i are random, of norm 1, and more than the columns, so they overlap. Whether a
    feature fires is f_i, with the probability p_i that :meth:`probabilities` gives, exactly; how
    strongly is a_i, uniform between 0.5 and 1.5.

    - Zipf: ``p_i`` is proportional to ``(i + 1)^-zipf``, at most 0.5.
    - Correlated: features of a group fire together more often than by chance. f_i is 1 where
      ``sqrt(c) g + sqrt(1 - c) e_i`` is above the quantile of p_i, with g of the group and e_i of
      the feature both standard normal (a Gaussian copula).
    - Hierarchical: the first feature of a group is the parent of the others, which fire only on
      rows on which it fires, and at most half as often.

    Feature i is in group ``i mod (features / group)``, so each group has frequent and rare ones.
    """

    features: Annotated[int, Meta(ge=1, le=2**20)] = 256
    """Planted directions."""
    width: Annotated[int, Meta(ge=1, le=2**16)] = 64
    """Columns of a row."""
    fires: Annotated[float, Meta(gt=0)] = 8.0
    """Mean number of planted features on a row."""
    zipf: Annotated[float, Meta(ge=0, le=10)] = 0.0
    """Exponent of the frequencies; 0: all are equally frequent."""
    correlation: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Share c of what decides about firing that the features of a group have in common."""
    hierarchical: bool = False
    """Whether the first feature of each group is the parent of the others."""
    group: Annotated[int, Meta(ge=2)] = 8
    """Features of a group."""
    noise: Annotated[float, Meta(ge=0)] = 0.0
    """Standard deviation of what is added to each column."""
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """Of the directions and of all rows."""

    def __post_init__(self) -> None:
        Settings.__post_init__(self)  # super() does not work in a dataclass with slots
        if self.fires > _MOST_OFTEN * self.features:
            raise InvalidInput(
                f"fires is {self.fires:g} of {self.features} features; wanted at most half of them"
            )
        if self.correlation and self.hierarchical:
            raise InvalidInput(
                f"correlation is {self.correlation:g} and hierarchical is set: frequencies would "
                "not be those asked for; choose one of the two"
            )
        if (self.correlation or self.hierarchical) and self.features % self.group:
            raise InvalidInput(
                f"features is {self.features}; wanted a multiple of group {self.group}"
            )

    def directions(self) -> NDArray[np.float32]:
        """Return the planted directions, unit rows ``[features, width]``."""
        drawn = np.random.default_rng([self.seed, 0]).standard_normal((self.features, self.width))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    def probabilities(self) -> NDArray[np.float64]:
        """Return how often each feature fires, ``[features]``; they sum to ``fires``."""
        weights = np.arange(1, self.features + 1, dtype=np.float64) ** -self.zipf
        if self.hierarchical:
            parents = self._groups()
            children = np.arange(self.features) != parents
            weights[children] = np.minimum(
                weights[children], _CHILD_SHARE * weights[parents[children]]
            )
        return _filled(weights, self.fires)

    def block(self, number: int) -> PlantedBlock:
        """Return a block of rows.

        Args:
            number: which, from 0; there is no last.
        """
        draw = np.random.default_rng([self.seed, 1, number])
        chance, shape = self.probabilities(), (BLOCK_ROWS, self.features)
        if self.hierarchical:
            parents = self._groups()
            given = np.where(np.arange(self.features) == parents, 1.0, chance[parents])
            fires = draw.random(shape) < chance / given
            fires &= fires[:, parents]
        elif self.correlation:
            shared = draw.standard_normal((BLOCK_ROWS, self.features // self.group))
            own = draw.standard_normal(shape)
            mixed = self.correlation**0.5 * shared[:, self._groups()]
            fires = mixed + (1 - self.correlation) ** 0.5 * own > ndtri(1 - chance)
        else:
            fires = draw.random(shape) < chance
        strength = np.where(fires, 0.5 + draw.random(shape), 0.0)
        rows = strength @ self.directions().astype(np.float64)
        if self.noise:
            rows += self.noise * draw.standard_normal(rows.shape)
        return PlantedBlock(rows.astype(np.float32), fires)

    def _groups(self) -> NDArray[np.int64]:
        """Return the group of each feature, which is the number of its first feature."""
        return np.arange(self.features) % (self.features // self.group)


PLANTED: Mapping[str, Superposition] = MappingProxyType(
    {
        "uniform": Superposition(),
        "zipf": Superposition(zipf=1.0),
        "correlated": Superposition(correlation=0.6),
        "hierarchical": Superposition(hierarchical=True),
    }
)
"""Four worlds: 256 directions in 64 columns, 8 on a row."""


def _filled(weights: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Return chances proportional to weights, none above the greatest, that sum to ``total``."""
    capped = np.zeros(len(weights), dtype=np.bool_)
    while True:
        left = total - _MOST_OFTEN * capped.sum()
        factor = left / weights[~capped].sum() if not capped.all() else 0.0
        found = np.where(capped, _MOST_OFTEN, factor * weights)
        if not (over := (found > _MOST_OFTEN) & ~capped).any():
            return found
        capped |= over
