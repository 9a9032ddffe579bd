"""What width and the other dictionaries of an atlas cost, in CPU time of one interleaved run.

``PYTHONPATH=src:benchmarks python -m universality_figures.cost``
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from house_figures.figure import Figure

from isogloss.universality.atlas.atlas import Atlas
from isogloss.universality.correlation.best_matches import best_matches

RUNS = 5
_ROWS, _ACTIVE = 3000, 16
_FEATURES, _SIZE = 2000, 64


def _cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _ratio(name: str, few: Callable[[], object], many: Callable[[], object], bar: float,
           unit: str, runs: int) -> Figure:  # fmt: skip
    times = [(_cpu_s(few), _cpu_s(many)) for _ in range(runs)]
    small, large = (statistics.median(side) for side in zip(*times, strict=True))
    return Figure(
        figure=name, value=large / small, bar=bar, unit=unit,
        peers={"small CPU ms": 1e3 * small, "large CPU ms": 1e3 * large}, runs=runs,
    )  # fmt: skip


def wide(runs: int = RUNS) -> Figure:
    """Measure [wide]: best matches at 131,072 features over 8,192, with equal non-zeros."""

    def work(features: int) -> Callable[[], object]:
        random = np.random.default_rng(0)
        columns = random.integers(0, features, _ROWS * _ACTIVE)
        rows = np.repeat(np.arange(_ROWS), _ACTIVE)
        codes = sp.csr_array(
            (random.random(_ROWS * _ACTIVE) + 0.1, (rows, columns)), shape=(_ROWS, features)
        )
        by_feature = codes.T.tocsr()
        return lambda: best_matches(by_feature, codes)

    return _ratio("wide", work(8192), work(131_072), 24, "CPU time, 131,072 over 8,192", runs)


def _atlas(others: int) -> Atlas:
    random = np.random.default_rng(1)
    atlas = Atlas(_SIZE)
    for number in range(others):
        rows = random.standard_normal((_FEATURES, _SIZE)).astype(np.float32)
        atlas.add(f"d{number}", rows, np.full(_FEATURES, 99, np.int64))
    return atlas


def one_of_100(runs: int = RUNS) -> Figure:
    """Measure [one_of_100]: searching one target among 100 over searching it alone."""

    def work(atlas: Atlas) -> Callable[[], object]:
        query = atlas.vectors("d0", [5])
        return lambda: [atlas.search(query, ["d0"]) for _ in range(200)]

    return _ratio(
        "one_of_100", work(_atlas(1)), work(_atlas(100)), 1.5, "CPU time, one target", runs
    )


def add_one(runs: int = RUNS) -> Figure:
    """Measure [add_one]: adding a dictionary to an atlas of 100 over adding it to an empty one."""
    rows = np.random.default_rng(2).standard_normal((16_384, _SIZE)).astype(np.float32)
    fires = np.full(len(rows), 99, np.int64)
    count = iter(range(1_000_000))

    def work(atlas: Atlas) -> Callable[[], object]:
        return lambda: [atlas.add(f"new{next(count)}", rows, fires) for _ in range(3)]

    return _ratio("add_one", work(_atlas(0)), work(_atlas(100)), 1.2, "CPU time of adding", runs)


if __name__ == "__main__":
    for figure in (wide(), one_of_100(), add_one()):
        print(figure.to_dict(), flush=True)
