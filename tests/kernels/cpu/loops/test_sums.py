"""Bits do not depend on whether the loops were just compiled or came from numba's cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import isogloss.kernels

SCRIPT = Path(__file__).with_name("cold_step.py")
LOOPS = Path(isogloss.kernels.__file__).parent / "cpu"


def hash_and_loaded(cache: Path | None) -> tuple[str, int]:
    """What the script computes in a process of its own, and how many loops it found in a cache."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        env={**os.environ, **({} if cache is None else {"NUMBA_CACHE_DIR": str(cache)})},
        capture_output=True,
        text=True,
        check=True,
    )
    found, loaded = done.stdout.split()
    return found, int(loaded)


@pytest.mark.timeout(900)  # some 20 s of compiling, and the machine may be busy
def test_a_process_that_compiles_and_one_that_loads_give_equal_bits(tmp_path: Path) -> None:
    """A fresh checkout is compiled into its own cache, where all other tests find the loops.

    Where another process has compiled some of them before, a cache of this test's own begins empty.
    """
    cache = None if not list(LOOPS.rglob("*.nbi")) else tmp_path
    compiled, loaded = hash_and_loaded(cache)
    if loaded and cache is None:
        cache = tmp_path
        compiled, loaded = hash_and_loaded(cache)
    assert loaded == 0
    assert list((cache or LOOPS).rglob("*.nbc"))  # the second run has something to load
    again, loaded = hash_and_loaded(cache)
    assert loaded > 0
    assert again == compiled
