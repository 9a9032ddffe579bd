"""A disk of few megabytes of its own, and how to fill it."""

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")


@contextmanager
def small_disk(at: Path, megabytes: int) -> Generator[Path]:
    """Mount an empty disk at a new directory, for the length of a block."""
    at.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def fill(disk: Path) -> None:
    """Leave not one byte free."""
    try:
        file = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        return
    for size in (1 << 20, 1 << 12, 1):
        try:
            while True:
                os.write(file, b"x" * size)
        except OSError:
            pass
    os.close(file)
    assert shutil.disk_usage(disk).free == 0
