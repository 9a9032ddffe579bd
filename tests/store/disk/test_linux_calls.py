"""The calls of Linux that Python lacks, on real files."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from isogloss.store.disk import linux_calls

LIMITED = """
import errno, os, resource, sys
from isogloss.store import linux_calls
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
file = os.open(sys.argv[1], os.O_RDWR)
try:
    linux_calls.reserve(file, 1 << 20)
except OSError as error:
    print(errno.errorcode[error.errno], os.fstat(file).st_size)
"""


def test_reserved_space_is_zeros_behind_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"rows")
    file = os.open(path, os.O_RDWR)
    linux_calls.reserve(file, 1 << 16)
    linux_calls.reserve(file, 1 << 12)
    os.close(file)
    assert path.read_bytes() == b"rows" + bytes((1 << 16) - 4)


def test_a_file_that_may_not_grow_is_told_and_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"rows")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["EFBIG", "4"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_where_space_cannot_be_reserved_the_file_is_only_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux_calls, "_fallocate", None)
    monkeypatch.setattr(linux_calls, "_sync_file_range", None)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    linux_calls.reserve(file, 4096)
    linux_calls.start_writing(file, 0, 4096)
    assert os.fstat(file).st_size == 4096
    os.close(file)


def test_starting_to_write_raises_nothing_even_without_a_file() -> None:
    linux_calls.start_writing(1_000_000, 0, 4096)
