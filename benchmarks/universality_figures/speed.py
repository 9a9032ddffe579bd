"""Exact best matches and signatures at the size of published dictionaries: time and memory.

``PYTHONPATH=src:benchmarks python -m universality_figures.speed``
"""

import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from house_figures.figure import Figure

from isogloss.universality import sketch
from isogloss.universality.correlation.best_matches import best_matches
from isogloss.universality.testing import write_probed

FEATURES = 24_576
ROWS = 40_000
ACTIVE = 32
_SLICE = 512
_CHUNK = 2048

_MEMORY = """
from pathlib import Path
from universality_figures.speed import codes
from isogloss.universality.correlation.best_matches import best_matches
def kib(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))
a, b = codes(0), codes(1)
a = a.T.tocsr()
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: making the codes took more
before = kib("VmRSS")
best_matches(a, b)
print(before, kib("VmHWM"))
"""
"""Not by ``ru_maxrss``: a process that a large one started inherits its peak."""


def codes(seed: int, rows: int = ROWS, features: int = FEATURES) -> sp.csr_array:
    """Return codes in which ``ACTIVE`` features of equal chance fire on each row."""
    random = np.random.default_rng(seed)
    columns = random.integers(0, features, rows * ACTIVE)
    made = sp.csr_array(
        (random.random(rows * ACTIVE) + 0.1, (np.repeat(np.arange(rows), ACTIVE), columns)),
        shape=(rows, features),
    )
    made.sum_duplicates()
    return made


@lru_cache(maxsize=1)
def _times() -> tuple[float, float]:
    """Return CPU seconds of the sparse whole, and of the dense way scaled from a slice of rows."""
    a, b = codes(0), codes(1)
    by_feature = a.T.tocsr()
    began = time.process_time()
    best_matches(by_feature, b)
    sparse = time.process_time() - began
    one, other = (side[:_SLICE].toarray().astype(np.float32) for side in (a, b))
    began = time.process_time()
    for start in range(0, FEATURES, _CHUNK):
        (one[:, start : start + _CHUNK].T @ other).argmax(axis=1)
    return sparse, (time.process_time() - began) * ROWS / _SLICE


def correlation_speed() -> Figure:
    """Measure [correlation_speed]: exact best matches over a chunked dense product, both ways."""
    sparse, dense = _times()
    return Figure(
        figure="correlation_speed", value=dense / sparse, bar=100, at_most=False,
        unit="times the CPU time of chunked dense GEMM and argmax, scaled from 512 rows",
        peers={"sparse CPU s": sparse, "dense CPU s": dense}, runs=1,
    )  # fmt: skip


def correlation_memory() -> Figure:
    """Measure [correlation_memory]: what exact best matches add to the codes at their peak."""
    ended = subprocess.run(
        [sys.executable, "-c", _MEMORY], capture_output=True, text=True, check=True
    )
    before, peak = (int(word) / 2**20 for word in ended.stdout.split())
    return Figure(
        figure="correlation_memory", value=peak - before, bar=1, unit="GiB beyond the codes",
        peers={"peak GiB": peak}, runs=1,
    )  # fmt: skip


def signature_rate() -> Figure:
    """Measure [signature_rate]: rows that one core sketches in a minute, one dictionary."""
    made = codes(2)
    keys = np.random.default_rng(3).integers(0, 2**63, ROWS).astype(np.uint64)
    with tempfile.TemporaryDirectory() as scratch:
        probed = write_probed(Path(scratch) / "codes", "d", made)
        sketch(probed, keys)  # read once, and every chunk compared with its checksum
        began = time.process_time()
        sketch(probed, keys)
        spent = time.process_time() - began
    return Figure(
        figure="signature_rate", value=60e-6 * ROWS / spent, bar=20, at_most=False,
        unit="million rows a minute and core, k = 32, m = 512", peers={"CPU s": spent}, runs=1,
    )  # fmt: skip


if __name__ == "__main__":
    for figure in (correlation_speed(), correlation_memory(), signature_rate()):
        print(figure.to_dict(), flush=True)
