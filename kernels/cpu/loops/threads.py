"""The lock round numba's parallel loops, and how many threads they take.

numba's ``workqueue`` layer ends the process when two threads run parallel loops at once, so every
parallel kernel of this room runs inside :func:`parallel_loops`, a process-wide lock. The number of
threads follows ``torch.set_num_threads``. With the OpenMP layer a child made by ``fork`` after the
first parallel loop aborts in its own first one: use the spawn or forkserver start method.
"""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager

import numba
import torch
from numba.np.ufunc.parallel import threading_layer

_LOCK = threading.RLock()
_LOG = logging.getLogger(__name__)
_checked: list[str] = []
_most_threads: int = numba.config.NUMBA_NUM_THREADS  # pyright: ignore (set from the environment)

FAST = {"reassoc", "contract", "nsz", "arcp", "afn"}
"""Fast-math flags of loops that only compare; NaN and inf keep their meaning. Loops that add have
none: see ``sums.py``."""


@contextmanager
def parallel_loops() -> Generator[None]:
    """Hold the process-wide lock, with numba's threads set to torch's."""
    with _LOCK:
        numba.set_num_threads(min(torch.get_num_threads(), _most_threads))
        yield
        if not _checked:
            _checked.append(threading_layer())
            if _checked[0] == "workqueue":
                _LOG.warning(
                    "numba runs on its workqueue layer: parallel numba code outside "
                    "isogloss.kernels must not run in another thread at the same time; "
                    "install tbb or OpenMP"
                )
