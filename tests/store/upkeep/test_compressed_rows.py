import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.store import Store
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.files import read_commits, read_header
from isogloss.store.shards.byte_range import ByteRange
from isogloss.store.testing import sample_batch, sample_spec
from isogloss.store.upkeep.compressed_rows import CompressedRows

SPEC = sample_spec()


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Path]:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"])
        with recording.open_lane() as writer:
            for sequence in range(1, 31):
                writer.append([sample_batch(SPEC, "p", sequence, rows=10)])
        recording.compress()
        yield recording.directory / "lanes" / recording.lanes()[0].name


def rows_of(lane: Path, rows: int = 300) -> CompressedRows:
    layout = read_header(FileSystem(), lane).layouts[0]
    return CompressedRows(FileSystem(), lane, 0, SPEC.sites[0].name, layout, rows)


def ranges(lane: Path) -> list[ByteRange]:
    commits = read_commits(FileSystem(), lane, 300)
    return [written for commit in commits for written in commit.ranges if written.site == 0]


def test_sound_rows_have_no_problem(lane: Path) -> None:
    rows = rows_of(lane)
    assert [problem for written in ranges(lane) for problem in rows.problems(written)] == []
    assert list(rows.rest()) == []


def test_rows_that_differ_from_their_commit_are_told(lane: Path) -> None:
    first = ranges(lane)[0]
    (problem,) = rows_of(lane).problems(replace(first, checksum=first.checksum ^ 1))
    assert "do not match their checksum" in problem


def test_a_damaged_chunk_is_told_once_by_commits_or_by_the_rest(lane: Path) -> None:
    shard = lane / "compressed-0/c/0/0"
    content = bytearray(shard.read_bytes())
    content[-40] ^= 1
    shard.write_bytes(content)
    by_commits = rows_of(lane)
    told = [problem for written in ranges(lane) for problem in by_commits.problems(written)]
    assert [*told, *by_commits.rest()] == told
    assert len(told) == 1
    assert list(rows_of(lane).rest()) == told


def test_rows_beyond_the_lane_are_told_and_not_read(lane: Path) -> None:
    far = replace(ranges(lane)[0], length=10**15)
    (problem,) = rows_of(lane).problems(far)
    assert "of 300" in problem


def test_shards_that_are_not_there_are_one_message(lane: Path) -> None:
    told = list(rows_of(lane, rows=10**15).rest())
    assert sum("are missing" in problem for problem in told) == 1
    assert len(told) <= 1 + 128 * 8  # no more than the index of the one shard has chunks


class Refuses(FileSystem):
    """Files that the system does not let open."""

    def open(self, path: Path, *, write: bool = False) -> int:
        raise OSError(errno.EMFILE, "too many open files")


def test_a_shard_that_the_system_does_not_open_is_told_once_with_the_reason(lane: Path) -> None:
    layout = read_header(FileSystem(), lane).layouts[0]
    rows = CompressedRows(Refuses(), lane, 0, SPEC.sites[0].name, layout, 300)
    told = [problem for written in ranges(lane) for problem in rows.problems(written)]
    assert len(told) == 1
    assert "shard 0 cannot be read" in told[0]
    assert "too many open files" in told[0]
