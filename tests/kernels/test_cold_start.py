"""Bits do not depend on whether the loops were just compiled or came from numba's cache."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("cold_step.py")


def test_a_process_that_compiles_and_one_that_loads_give_equal_bits(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    runs = [
        subprocess.run(
            [sys.executable, str(SCRIPT)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert list((tmp_path / "cache").rglob("*.nbc"))  # the second run had something to load
    assert runs[0] == runs[1]
