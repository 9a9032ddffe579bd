"""Text and codes of which the truth is known: what the figures of universality are measured on.

A pair of features fires on rows by chance: on some together, on some alone. Strengths follow a law;
where both fire, they are equal with chance one half, else independent. So every moment, and with it
r, is known exactly. A source makes all rates of a pair higher or lower, which leaves the moments as
they are and makes rows depend on each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.universality.nulls.strata import Strata, joint_values

EQUAL = 0.5
"""Chance that the strengths of a pair are equal where both fire."""

Random = np.random.Generator


@dataclass(frozen=True, kw_only=True)
class Strength:
    """A law of activations above zero."""

    draw: Callable[[Random, int], NDArray[np.float64]]
    """Draws so many."""
    mean: float
    """E x."""
    square: float
    """E x²."""

    @property
    def product(self) -> float:
        """E of the product of the two strengths where both fire."""
        return EQUAL * self.square + (1 - EQUAL) * self.mean**2


def lognormal(sigma: float) -> Strength:
    """Return the law of exp(sigma z)."""
    return Strength(
        draw=lambda random, count: random.lognormal(0.0, sigma, count),
        mean=float(np.exp(sigma**2 / 2)),
        square=float(np.exp(2 * sigma**2)),
    )


STRENGTHS: Mapping[str, Strength] = {
    "half-normal": Strength(
        draw=lambda random, count: np.abs(random.standard_normal(count)),
        mean=float(np.sqrt(2 / np.pi)),
        square=1.0,
    ),
    "gamma": Strength(draw=lambda random, count: random.gamma(2.0, 1.0, count), mean=2, square=6),
    "lognormal .5": lognormal(0.5),
    "lognormal 1": lognormal(1.0),
    "lognormal 1.2": lognormal(1.2),
}
"""Laws by name; the last is heavy-tailed: one row in a hundred is sixteen times the median."""


def _two_sizes(random: Random, count: int) -> NDArray[np.float64]:
    strong = random.random(count) < 0.1
    return np.where(strong, random.uniform(1, 4, count), random.uniform(0.2, 0.4, count))


FRESH: Mapping[str, Strength] = {
    "exponential": Strength(
        draw=lambda random, count: random.exponential(1.0, count), mean=1.0, square=2.0
    ),
    "Lomax 6": Strength(
        draw=lambda random, count: random.pareto(6.0, count), mean=1 / 5, square=1 / 10
    ),
    "two sizes": Strength(
        draw=_two_sizes,
        mean=0.9 * 0.3 + 0.1 * 2.5,
        square=0.9 * (0.3**2 + 0.2**2 / 12) + 0.1 * (2.5**2 + 3**2 / 12),
    ),
}
"""Laws that chose nothing: on them the intervals were only tried. Of the last, one firing in ten
holds nearly all of the variance, and nothing in the others tells of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Text:
    """Rows of a probe's half."""

    token: Strata
    """By token: Zipf's law over 30,000."""
    position: Strata
    """By position in documents of 100 rows."""
    joint: Strata
    """By both."""
    sources: Strata
    """By source."""

    @property
    def rows(self) -> int:
        """How many."""
        return self.token.rows


def text(random: Random, rows: int, sources: int, *, uneven: float = 0.7) -> Text:
    """Return rows of so many sources, whose sizes are lognormal."""
    size = random.lognormal(0.0, uneven, sources)
    source = np.sort(random.choice(sources, rows, p=size / size.sum()))
    source[:sources] = np.arange(sources)  # each has a row
    source.sort()
    popularity = 1 / (np.arange(30_000) + 2.7)
    edges = np.cumsum(popularity / popularity.sum())
    token = np.searchsorted(edges, random.random(rows)).astype(np.int64)
    position = np.arange(rows) % 100
    return Text(
        token=Strata.of("token", token),
        position=Strata.of("position", position),
        joint=Strata.of("token_position", joint_values(token, position)),
        sources=Strata.of("document", source),
    )


def together(strength: Strength, r: float, rate: float) -> float:
    """Return how often both fire on a row, so that features that fire at a rate have this r."""
    mean = rate * strength.mean
    covariance = r * (rate * strength.square - mean**2)
    both = (covariance + mean**2) / strength.product
    if both > rate:
        raise ValueError(f"r {r} is out of reach at rate {rate}: both would fire at {both:.3f}")
    return float(both)


def source_rates(random: Random, sources: int, clustered: float) -> NDArray[np.float64]:
    """Return by how much each source raises a pair's rates: 1 on average; 0 clusters not at all."""
    if clustered == 0:
        return np.ones(sources)
    return random.gamma(1 / clustered, clustered, sources)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Rows on which a feature of each dictionary fires, and how strongly."""

    rows_a: NDArray[np.int64]
    values_a: NDArray[np.float64]
    rows_b: NDArray[np.int64]
    values_b: NDArray[np.float64]


def planted(
    random: Random,
    rows: NDArray[np.int64],
    label: NDArray[np.int64],
    rates: NDArray[np.float64],
    strength: Strength,
    r: float,
    rate: float,
) -> Pair:
    """Return a pair of known r over some rows.

    Args:
        random: the random generator.
        rows: the rows on which either may fire, ``[rows]``; r is over these.
        label: source of each of them, ``[rows]``.
        rates: ``source_rates``, ``[sources]``.
        strength: law of the strengths.
        r: correlation over the rows.
        rate: share of the rows on which each fires.
    """
    both = together(strength, r, rate)
    scale = np.minimum(rates[label], 1 / (2 * rate - both))
    drawn = random.random(len(rows))
    edges = np.array([both, rate, 2 * rate - both])[:, None] * scale
    shared = rows[drawn < edges[0]]
    only_a = rows[(drawn >= edges[0]) & (drawn < edges[1])]
    only_b = rows[(drawn >= edges[1]) & (drawn < edges[2])]
    one, other = (strength.draw(random, len(shared)) for _ in range(2))
    equal = random.random(len(shared)) < EQUAL
    return Pair(
        rows_a=np.concatenate([shared, only_a]),
        values_a=np.concatenate([one, strength.draw(random, len(only_a))]),
        rows_b=np.concatenate([shared, only_b]),
        values_b=np.concatenate([np.where(equal, one, other), strength.draw(random, len(only_b))]),
    )


def matrices(pairs: list[Pair], rows: int) -> tuple[sp.csr_array, sp.csr_array]:
    """Return the codes of both sides, feature-major ``[pairs, rows]``."""

    def stack(where: list[NDArray[np.int64]], values: list[NDArray[np.float64]]) -> sp.csr_array:
        lengths = np.array([len(some) for some in where])
        matrix = sp.csr_array(
            (
                np.concatenate(values),
                np.concatenate(where),
                np.concatenate([[0], np.cumsum(lengths)]),
            ),
            shape=(len(where), rows),
        )
        matrix.sort_indices()
        return matrix

    return (
        stack([pair.rows_a for pair in pairs], [pair.values_a for pair in pairs]),
        stack([pair.rows_b for pair in pairs], [pair.values_b for pair in pairs]),
    )
