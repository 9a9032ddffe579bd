"""What tokens are said to explain of features that have nothing to do with them, and closed forms.

``PYTHONPATH=src:benchmarks python -m universality_figures.strata_bias [features of a cell]``
"""

import sys
from itertools import product

import numpy as np
import scipy.sparse as sp
from house_figures.figure import Figure
from numpy.typing import NDArray

from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.nulls.strata import explain_pairs
from universality_figures.laws import STRENGTHS, Random, Text, source_rates, text

FEATURES = 400
ROWS = (25_000, 100_000)
FIRES = (30, 100, 1000)
CLUSTERED = (0.0, 1.0)
_FIRST_SEED = 9000


def independent(random: Random, some: Text, law: str, fires: int, clustered: float) -> sp.csr_array:
    """Return a feature that fires on any row with equal chance, but for its source."""
    rates = source_rates(random, some.sources.size, clustered)[some.sources.label]
    rows = np.flatnonzero(random.random(some.rows) < rates * fires / some.rows)
    values = STRENGTHS[law].draw(random, len(rows))
    return sp.csr_array((values, (np.zeros(len(rows), int), rows)), shape=(1, some.rows))


def eta_bias(features: int = FEATURES) -> Figure:
    """Measure [eta_bias]: mean share that tokens seem to explain of independent features."""
    found: dict[str, float] = {}
    plain: dict[str, float] = {}
    given: list[NDArray[np.bool_]] = []
    for number, (rows, law, fires, clustered) in enumerate(
        product(ROWS, STRENGTHS, FIRES, CLUSTERED)
    ):
        random = np.random.default_rng([_FIRST_SEED, number])
        some = text(random, rows, 100)
        codes = sp.csr_array(
            sp.vstack([independent(random, some, law, fires, clustered) for _ in range(features)])
        )
        each = np.arange(features)
        eta = explain_pairs(codes, codes, each, each, some.token).eta2_a
        given.append(np.isfinite(eta))
        cell = f"{rows} rows, {law}, {fires} firings, clustered {clustered}"
        found[cell] = float(np.nanmean(eta)) if np.isfinite(eta).any() else 0.0
        plain[cell] = some.token.bias
    worst = max(found, key=lambda cell: abs(found[cell]))
    return Figure(
        figure="eta_bias", value=abs(found[worst]), bar=0.08,
        unit="mean eta squared of features independent of tokens, worst cell",
        peers={
            "worst": worst, "cells": len(found), "plain shares": [min(plain.values()),
            max(plain.values())], "values given": float(np.mean(np.concatenate(given))),
        }, runs=features,
    )  # fmt: skip


def null_closed_form(pairs: int = 200, draws: int = 200) -> Figure:
    """Measure [null_closed_form]: closed forms within three standard errors of draws.

    Rows that are alone with their token are in no draw, as in ``draw_null``.
    """
    random = np.random.default_rng(_FIRST_SEED + 1)
    some = text(random, 10_000, 100)
    kept = np.flatnonzero(some.token.counts[some.token.label] > 1)
    strata = some.token.take(kept)
    sides: list[sp.csr_array] = []
    laws = list(STRENGTHS.values())
    of_token = random.random((pairs, some.token.size)) < 0.02
    for _ in range(2):
        rows: list[sp.csr_array] = []
        for pair in range(pairs):
            fires = of_token[pair][some.token.label] & (random.random(some.rows) < 0.5)
            fires |= random.random(some.rows) < 0.005
            where = np.flatnonzero(fires)
            values = laws[pair % len(laws)].draw(random, len(where))
            rows.append(
                sp.csr_array((values, (np.zeros(len(where), int), where)), shape=(1, some.rows))
            )
        sides.append(sp.csr_array(sp.vstack(rows)))
    each = np.arange(pairs)
    closed = explain_pairs(sides[0], sides[1], each, each, some.token).expected
    a, b = (side[:, kept].tocsr() for side in sides)
    drawn = np.array(
        [pair_statistics(a, b[:, strata.exchange(random)], each, each).r for _ in range(draws)]
    )
    error = drawn.std(axis=0, ddof=1) / np.sqrt(draws)
    off = np.abs(drawn.mean(axis=0) - closed) / error
    return Figure(
        figure="null_closed_form", value=float((off <= 3).mean()), bar=0.99, at_most=False,
        unit=f"of pairs within 3 standard errors of {draws} draws",
        peers={"pairs": pairs, "root mean square of standard errors off":
               float(np.sqrt((off**2).mean())), "mean null": float(closed.mean())}, runs=draws,
    )  # fmt: skip


if __name__ == "__main__":
    count = int(sys.argv[1]) if sys.argv[1:] else FEATURES
    print(null_closed_form().to_dict(), flush=True)
    print(eta_bias(count).to_dict())
