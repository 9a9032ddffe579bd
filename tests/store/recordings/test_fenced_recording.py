"""Recordings where no lock can be trusted."""

import contextlib
from collections.abc import Generator
from pathlib import Path

import pytest

from isogloss.errors import Fenced, InvalidInput, NotFound, StorageError, StoreOwned
from isogloss.store import (
    RowBatch,
    Store,
)
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()


SHARD_BYTES = 8 << 10


def batches(first: int, count: int, producer: str = "p") -> list[RowBatch]:
    return [sample_batch(SPEC, producer, number) for number in range(first, first + count)]


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "store", fencing="create") as opened:
        yield opened


def new_recording(store: Store) -> FencedRecording:
    recording = store.create_recording(SPEC, ["a"], shard_bytes=SHARD_BYTES)
    assert isinstance(recording, FencedRecording)
    return recording


def test_a_reader_in_another_process_sees_what_is_committed(store: Store) -> None:
    recording = new_recording(store)
    lane = recording.open_lane()
    lane.append(batches(1, 2))
    with Store.attach(store.root) as other:
        there = other.recording("sample")
        assert check_sample(there.reader(), {"p": 2}) == {"p": 2}
        lane.append(batches(3, 2))
        assert check_sample(there.reader(), {"p": 4}) == {"p": 4}
        assert there.lanes()[0].seal is None
        with pytest.raises(StoreOwned, match="attach"):
            there.open_lane()
        lane.append(batches(5, 1))
        lane.close()
        pinned = there.reader()
        recording.derive()
        assert check_sample(there.reader(), {"p": 5}) == {"p": 5}
        assert check_sample(pinned, {"p": 5}) == {"p": 5}
        assert there.verify() == []


def test_direct_lanes_are_refused_where_there_are_no_locks(store: Store) -> None:
    with pytest.raises(InvalidInput, match="no locks"):
        new_recording(store).offer_direct_lane(["p"])


def test_only_an_owner_moves_what_ended_to_shards(store: Store) -> None:
    recording = new_recording(store)
    with recording.open_lane() as lane:
        lane.append(batches(1, 2))
    shards = recording.directory / "lanes" / lane.name
    with Store.attach(store.root) as other:
        other.recording("sample").derive()
    assert not shards.exists()
    recording.derive()
    assert (shards / "site-0" / "zarr.json").exists()


@pytest.mark.parametrize(
    "error", [StorageError("unreadable"), NotFound("gone"), FileNotFoundError("gone")], ids=repr
)
def test_work_that_finds_a_file_missing_or_unreadable_asks_who_owns_the_store(
    tmp_path: Path, error: Exception
) -> None:
    with Store.open(tmp_path, fencing="create") as first:
        recording = new_recording(first)
        with pytest.raises(type(error), match=str(error)), recording._work_alone():
            raise error
        with contextlib.ExitStack() as stack:

            def lose_the_store() -> None:
                stack.enter_context(Store.open(tmp_path, force=True))
                raise error

            with pytest.raises((Fenced, StoreOwned)), recording._work_alone():
                lose_the_store()
