"""Upkeep of fenced lanes: damage is named, leftovers are removed, fences stay."""

from collections.abc import Generator
from pathlib import Path

import pytest

from isogloss.errors import CorruptData, Fenced
from isogloss.store import (
    Recording,
    RowBatch,
    Store,
)
from isogloss.store.fenced.records import BIRTHS, COMMITS, GROUPS
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()


SHARD_BYTES = 8 << 10


def batches(first: int, count: int, producer: str = "p") -> list[RowBatch]:
    return [sample_batch(SPEC, producer, number) for number in range(first, first + count)]


def fill(recording: Recording, first: int, groups: int, producer: str = "p") -> None:
    with recording.open_lane() as lane:
        for group in range(groups):
            lane.append(batches(first + 2 * group, 2, producer))


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "store", fencing="create") as opened:
        yield opened


def new_recording(store: Store) -> FencedRecording:
    recording = store.create_recording(SPEC, ["a"], shard_bytes=SHARD_BYTES)
    assert isinstance(recording, FencedRecording)
    return recording


def test_the_fence_outlives_everything_that_upkeep_removes(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as first:
        recording = new_recording(first)
        lane = recording.open_lane()
        lane.append(batches(1, 3))
        with Store.open(tmp_path, force=True) as second:
            taken = second.recording("sample")
            taken.derive()
            taken.retire(0)
            second.collect_garbage(0.0)
            assert taken.lanes()[0].is_retired
            with pytest.raises(Fenced):
                lane.append(batches(4, 1))
            assert taken.reader().rows == 0
            assert taken.cursor("p") == 3


def test_damage_is_named_and_the_rest_stays_readable(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = new_recording(store)
        fill(recording, 1, 4)
        name = recording.lanes()[0].name
        groups = recording.directory / GROUPS / name
        damaged = sorted(groups.iterdir())[1]
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert any("commit 2" in problem.message for problem in recording.verify())
        with pytest.raises(CorruptData, match="checksum"):
            recording.move_to_shards()
        damaged.unlink()
        assert any("missing" in problem.message for problem in recording.verify())
        with pytest.raises(CorruptData, match="verify"):
            recording.reader().read("layer.1/out", 0, recording.reader().rows)
        damaged.write_bytes(whole)
        assert recording.verify() == []
        commit = recording.directory / COMMITS / name / f"{2:016d}"
        record = commit.read_bytes()
        commit.write_bytes(record[:50] + b"?" + record[51:])
        assert any("checksum" in problem.message for problem in recording.verify())


def test_garbage_is_rows_without_a_commit_and_half_written_files(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = new_recording(store)
        fill(recording, 1, 2)
        name = recording.lanes()[0].name
        litter = [
            recording.directory / GROUPS / name / f"0.{7:012d}",
            recording.directory / GROUPS / "00000009.0123456789abcdef" / f"0.{1:012d}",
            recording.directory / COMMITS / name / ".x.1234.partial",
            recording.directory / BIRTHS / ".x.1234.partial",
            tmp_path / "catalog" / "recording" / ".x.1234.partial",
            tmp_path / ".isogloss.json.1234.partial",
        ]
        for path in litter:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
        assert check_sample(recording.reader(), {"p": 4}) == {"p": 4}
        assert store.collect_garbage(older_s=-1.0) >= len(litter)
        assert not any(path.exists() for path in litter)
        assert check_sample(recording.reader(), {"p": 4}) == {"p": 4}
        assert recording.verify() == []


def test_each_damaged_record_is_named_also_where_its_lane_cannot_be_listed(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = new_recording(store)
        fill(recording, 1, 7)
        name = recording.lanes()[0].name
        directory = recording.directory
    for number in (2, 5):
        commit = directory / COMMITS / name / f"{number:016d}"
        record = commit.read_bytes()
        commit.write_bytes(record[:50] + b"?" + record[51:])
    rows = max((directory / GROUPS / name).iterdir())
    content = rows.read_bytes()
    rows.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with Store.attach(tmp_path) as store:
        told = [f"{problem.lane} {problem.message}" for problem in store.verify()]
    for what in ("commit 2", "commit 5", rows.name):
        assert any(name in line and what in line for line in told), (what, told)
