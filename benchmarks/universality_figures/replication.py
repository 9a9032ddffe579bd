"""The label 'replicates': power on pairs of r = .4, false positives on pairs that chance chose.

``PYTHONPATH=src:benchmarks python -m universality_figures.replication [pairs of a cell]``
"""

import sys
from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy.sparse as sp
from house_figures.figure import Figure
from numpy.typing import NDArray

from isogloss.universality.correlation.best_matches import best_matches
from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.correlation.ranks import pair_ranks
from isogloss.universality.nulls.compress import compress
from isogloss.universality.nulls.intervals import correlation_intervals
from isogloss.universality.nulls.labels import UNDECIDED, YES
from isogloss.universality.nulls.rules import DECISIVE, replicates
from universality_figures.laws import (
    STRENGTHS,
    Random,
    Text,
    matrices,
    planted,
    source_rates,
    text,
)

PAIRS = 300
ROWS = 25_000
SOURCES = 60
BAR = 0.1
CLUSTERED = (0.0, 1.0)
_FIRST_SEED = 9500


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """Codes of both dictionaries on one half, ``[features, rows]``, and their text."""

    a: sp.csr_array
    b: sp.csr_array
    on: Text


def sides(random: Random, law: str, r: float | None, clustered: float, pairs: int) -> Sides:
    """Return pairs of features of known r that fire 110 to 400 times; None: unrelated ones."""
    some = text(random, ROWS, SOURCES)
    every = np.arange(ROWS)

    def draw(known: float) -> tuple[sp.csr_array, sp.csr_array]:
        return matrices(
            [
                planted(
                    random,
                    every,
                    some.sources.label,
                    source_rates(random, SOURCES, clustered),
                    STRENGTHS[law],
                    known,
                    10 ** random.uniform(2.05, 2.6) / ROWS,
                )
                for _ in range(pairs)
            ],
            ROWS,
        )

    a, b = draw(0.0 if r is None else r)
    return Sides(a=a, b=b if r is not None else draw(0.0)[1], on=some)


def judge(choose: Sides, report: Sides) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Match on one half: labels of the mutual pairs on the other, and which have equal index."""
    of_a, of_b = best_matches(choose.a, choose.b.T.tocsr()).mutual(0.0)
    statistics = pair_statistics(report.a, report.b, of_a, of_b)
    ranks = pair_ranks(report.a, report.b.T.tocsr(), of_a, of_b, statistics.r)
    each = np.arange(len(of_a))
    one, other = compress(report.a[of_a]), compress(report.b[of_b])
    low = correlation_intervals(one, other, each, each, report.on.sources).low
    fires = np.minimum(statistics.fires_a, statistics.fires_b)
    again = (ranks.of_a == 1) & (ranks.of_b == 1)
    label = replicates(low, again, fires, bar=BAR)
    return label[fires >= DECISIVE], (of_a == of_b)[fires >= DECISIVE]


def power_replicates(pairs: int = PAIRS) -> Figure:
    """Measure [power_replicates]: pairs of r = .4 that are said to replicate, worst law."""
    found: dict[str, list[float]] = {}
    for number, (law, clustered) in enumerate(product(STRENGTHS, CLUSTERED)):
        random = np.random.default_rng([_FIRST_SEED, number])
        halves = [sides(random, law, 0.4, clustered, pairs) for _ in range(2)]
        label, is_planted = judge(*halves)
        said = label[is_planted]
        found[f"{law}, clustered {clustered}"] = [
            float((said == YES).mean()), float((said == UNDECIDED).mean()), len(said),
        ]  # fmt: skip
    worst = min(found, key=lambda cell: found[cell][0])
    return Figure(
        figure="power_replicates", value=found[worst][0], bar=0.95, at_most=False,
        unit="of pairs of r = .4 with 100 firings, 25,000 rows, worst law",
        peers={"worst": worst, "yes, undecided, pairs": found}, runs=pairs,
    )  # fmt: skip


def false_replicates(pairs: int = 4 * PAIRS) -> Figure:
    """Measure [false_replicates]: pairs without a partner, chosen by chance, said to replicate."""
    yes = chosen = 0
    for number, (law, clustered) in enumerate(product(STRENGTHS, CLUSTERED)):
        random = np.random.default_rng([_FIRST_SEED + 1, number])
        halves = [sides(random, law, None, clustered, pairs) for _ in range(2)]
        label, _ = judge(*halves)
        yes += int((label == YES).sum())
        chosen += len(label)
    return Figure(
        figure="false_replicates", value=yes / max(chosen, 1), bar=0.001,
        unit="of pairs that chance chose", peers={"pairs": chosen, "yes": yes}, runs=pairs,
    )  # fmt: skip


if __name__ == "__main__":
    count = int(sys.argv[1]) if sys.argv[1:] else PAIRS
    print(power_replicates(count).to_dict(), flush=True)
    print(false_replicates(4 * count).to_dict())
