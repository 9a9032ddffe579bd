"""The calls of Linux that Python lacks, on real files."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from isogloss.store.disk import linux_calls

LIMITED = """
import errno, os, resource, sys
from isogloss.store.disk import linux_calls
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
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["EFBIG", "4"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == limits


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


WAYS = ("kernel", "one by one")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(linux_calls, "_idle", [])
    if request.param == "one by one":
        monkeypatch.setattr(linux_calls, "_AIO_NUMBERS", {})
    return str(request.param)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[int]]:
    found = [os.open(tmp_path / f"{i}", os.O_RDWR | os.O_CREAT) for i in range(80)]
    yield found
    for descriptor in found:
        os.close(descriptor)


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 80])
def test_any_number_of_files_is_synced(way: str, files: list[int], count: int) -> None:
    for descriptor in files[:count]:
        os.write(descriptor, b"rows")
    linux_calls.sync_together(files[:count])
    has_queue = way == "kernel" and count > 1
    assert len(linux_calls._idle) == int(has_queue)


@pytest.mark.parametrize("place", [0, 1, 40])
def test_a_file_that_cannot_be_synced_is_told(way: str, files: list[int], place: int) -> None:
    wrong, other = os.pipe()
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            linux_calls.sync_together([*files[:place], wrong, *files[place:]])
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            linux_calls.sync_together([*files[:place], 1_000_000, *files[place:]])
    finally:
        os.close(wrong)
        os.close(other)
    linux_calls.sync_together(files)


def test_an_error_of_the_disk_is_raised_whichever_file_has_it(
    monkeypatch: pytest.MonkeyPatch, files: list[int]
) -> None:
    class Failing(linux_calls._SyncQueue):
        def sync(self, descriptors: Sequence[int]) -> list[int | None]:
            found = super().sync(descriptors)
            assert found == [0] * len(found)  # the kernel took and ended every one
            return [*found[:-1], errno.EIO]

    numbers = linux_calls._AIO_NUMBERS.get(os.uname().machine)
    if numbers is None:
        pytest.skip(f"no asynchronous I/O known on {os.uname().machine}")
    monkeypatch.setattr(linux_calls, "_idle", [Failing(numbers)])
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        linux_calls.sync_together(files[:3])


def test_many_threads_share_few_queues(way: str, files: list[int]) -> None:
    def sync_often(number: int) -> None:
        for _ in range(40):
            linux_calls.sync_together(files[3 * number : 3 * number + 3])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sync_often, range(16)))
    assert len(linux_calls._idle) <= 8


def test_a_forked_process_takes_queues_of_its_own(files: list[int]) -> None:
    linux_calls.sync_together(files)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            was_empty = not linux_calls._idle
            linux_calls.sync_together(files)
            code = 0 if was_empty else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    linux_calls.sync_together(files)
