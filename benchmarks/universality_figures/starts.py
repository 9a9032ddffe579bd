"""Common starts of dictionaries that were reordered, pruned or went far, and unrelated ones.

``PYTHONPATH=src:benchmarks python -m universality_figures.starts [unrelated pairs]``
"""

import sys

import numpy as np
from house_figures.figure import Figure
from numpy.typing import NDArray

from isogloss.universality.matching.shared_start import shared_init

UNRELATED = 200
EACH = 20
_FIRST_SEED = 9100
_FEATURES, _WIDTH = 1024, 128

Rows = NDArray[np.float64]


def _unit(rows: Rows) -> Rows:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _trained(random: np.random.Generator, start: Rows, cosine: float) -> Rows:
    """Return rows that kept this cosine with their start, and lean one way a little."""
    lean = 0.3 * _unit(random.standard_normal((1, start.shape[1])))
    own = _unit(random.standard_normal(start.shape) / np.sqrt(start.shape[1]) + lean)
    return _unit(cosine * start + np.sqrt(1 - cosine**2) * own)


def init_found() -> Figure:
    """Measure [init_found]: common starts that are found, of 60."""
    found = {"reordered": 0, "pruned": 0, "weak": 0}
    for kind, seed in ((kind, seed) for kind in found for seed in range(EACH)):
        random = np.random.default_rng([_FIRST_SEED, len(kind), seed])
        start = _unit(random.standard_normal((_FEATURES, _WIDTH)))
        cosine = random.uniform(0.15, 0.3) if kind == "weak" else random.uniform(0.6, 0.85)
        a, b = (_trained(random, start, cosine) for _ in range(2))
        if kind == "reordered":
            b = random.permutation(b) if seed % 2 else np.roll(b, 1 + seed, axis=0)
        if kind == "pruned":
            b = b[np.sort(random.permutation(_FEATURES)[: _FEATURES // 3])]
        found[kind] += shared_init(decoder_a=a, decoder_b=b) is not None
    return Figure(
        figure="init_found", value=sum(found.values()), bar=3 * EACH, at_most=False,
        unit="common starts found", peers={**found}, runs=3 * EACH,
    )  # fmt: skip


def _unrelated(random: np.random.Generator) -> Rows:
    """Return rows with clusters, a common direction and axes of unequal spread."""
    features = int(random.integers(300, _FEATURES))
    centres = _unit(random.standard_normal((int(random.integers(1, 60)), _WIDTH)))
    rows = _unit(random.standard_normal((features, _WIDTH)))
    rows += random.uniform(0, 1) * centres[random.integers(0, len(centres), features)]
    rows += random.uniform(0, 0.5) * _unit(random.standard_normal((1, _WIDTH)))
    return _unit(rows * random.lognormal(0, random.uniform(0, 0.4), _WIDTH))


def init_false(count: int = UNRELATED) -> Figure:
    """Measure [init_false]: unrelated dictionaries that are said to have a common start."""
    random = np.random.default_rng(_FIRST_SEED + 1)
    raised = sum(
        shared_init(decoder_a=_unrelated(random), decoder_b=_unrelated(random)) is not None
        for _ in range(count)
    )
    return Figure(
        figure="init_false", value=raised, bar=2, unit=f"of {count} unrelated pairs", runs=count
    )


if __name__ == "__main__":
    print(init_found().to_dict(), flush=True)
    print(init_false(int(sys.argv[1]) if sys.argv[1:] else UNRELATED).to_dict())
