"""Planted pairs among impostors, matched whole: what is recovered and what is labelled rightly.

``PYTHONPATH=src:benchmarks python -m universality_figures.planted [seeds]``
"""

import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from house_figures.figure import Figure

from isogloss.universality import MatchSettings, match
from isogloss.universality.testing import ground_truth
from isogloss.universality.testing.ground_truth import KINDS, SMALLER_PART

SEEDS = 3
_FIRST_SEED = 20
_PLANTED = [*(KINDS.index(kind) for kind in ("planted", "split", "merged")), SMALLER_PART]
_PART_WITH_WHOLE = "smaller parts of merged features paired with their whole, which is right"
_PRIVATE = "private features in any pair"
_IMPOSTORS = ("token", "case", "position", "token at position", "topic", "private")


@lru_cache(maxsize=1)
def answers(seeds: int = SEEDS) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Return right answers and features by kind, and how many strong pairs are of two features."""
    found: dict[str, tuple[int, int]] = {}
    wrong = {"planted": 0, _PART_WITH_WHOLE: 0, _PRIVATE: 0}
    for seed in range(_FIRST_SEED, _FIRST_SEED + seeds):
        with tempfile.TemporaryDirectory() as scratch:
            truth = ground_truth(Path(scratch), seed=seed)
            result = match(truth.a, truth.b, truth.probe, settings=MatchSettings(keys=("none",)))
            for kind, (right, of) in truth.judge(result).items():
                before = found.get(kind, (0, 0))
                found[kind] = (before[0] + right, before[1] + of)
            strong = result.pairs.take((result.pairs.r >= 0.5).nonzero()[0])
            # an impostor may match another of the same token or place: only planted ones may not
            kinds = truth.kind[strong.feature_a]
            is_part = kinds == SMALLER_PART  # the larger part stands before it
            of, made_with = strong.feature_a - is_part, truth.partner[strong.feature_b]
            other = np.where(made_with < 0, KINDS.index("private"), truth.kind[made_with])
            is_planted = np.isin(kinds, _PLANTED) | np.isin(other, _PLANTED)
            wrong["planted"] += int((is_planted & (made_with != of)).sum())
            wrong[_PART_WITH_WHOLE] += int((is_part & (made_with == of)).sum())
            wrong[_PRIVATE] += int((kinds == KINDS.index("private")).sum())
    return found, wrong


def _share(kinds: tuple[str, ...], seeds: int) -> float:
    found, _ = answers(seeds)
    right, of = (sum(found[kind][place] for kind in kinds) for place in (0, 1))
    return right / of


def planted(seeds: int = SEEDS) -> Figure:
    """Measure [planted]: pairs found, replicating and beyond their token, a fifth dropped."""
    return Figure(
        figure="planted", value=_share(("planted",), seeds), bar=0.99, at_most=False,
        unit="of planted pairs with 20 % of the firings dropped",
        peers={kind: _share((kind,), seeds) for kind in ("split", "merged")}, runs=seeds,
    )  # fmt: skip


def planted_false(seeds: int = SEEDS) -> Figure:
    """Measure [planted_false]: pairs with r >= .5 of a planted feature and another's partner."""
    _, wrong = answers(seeds)
    return Figure(
        figure="planted_false", value=wrong["planted"], bar=0, unit="pairs with r >= .5",
        peers={**wrong}, runs=seeds,
    )  # fmt: skip


def impostors(seeds: int = SEEDS) -> Figure:
    """Measure [impostors]: impostors of six kinds that are labelled rightly."""
    return Figure(
        figure="impostors", value=_share(_IMPOSTORS, seeds), bar=0.98, at_most=False,
        unit="of impostors labelled rightly",
        peers={kind: list(answers(seeds)[0][kind]) for kind in _IMPOSTORS}, runs=seeds,
    )  # fmt: skip


if __name__ == "__main__":
    count = int(sys.argv[1]) if sys.argv[1:] else SEEDS
    for figure in (planted(count), planted_false(count), impostors(count)):
        print(figure.to_dict(), flush=True)
