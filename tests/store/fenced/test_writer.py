"""Fenced lanes are written by exclusive creation."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isogloss.store import (
    LaneLimits,
    Recording,
    RecordingSpec,
    RowBatch,
    Store,
)
from isogloss.store.fenced.writer import FencedLaneWriter, LaneTaken
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import check_sample, sample_batch, sample_spec
from isogloss.store.testing.fenced_processes import (
    kill_between_rows_and_record,
)
from isogloss.store.testing.lane_contract import LaneWriterContract

SPEC = sample_spec()


SHARD_BYTES = 8 << 10


class InFencedStores:
    """Recordings of stores that are fenced by exclusive creation."""

    @contextmanager
    def make(self, directory: Path, spec: RecordingSpec) -> Generator[Recording]:
        with Store.open(directory, fencing="create") as store:
            yield store.create_recording(spec, ["a"], shard_bytes=SHARD_BYTES)


class TestFencedLaneWriter(InFencedStores, LaneWriterContract):
    pass


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


def test_the_loser_of_a_lane_number_sees_the_winner_and_stops(tmp_path: Path) -> None:
    """A sleeper that passed its last check of the owner cannot take a number twice."""
    with Store.open(tmp_path, fencing="create") as first:
        sleeper = new_recording(first)
        sleeper.lanes()
        documents = sleeper.known_documents()
        with Store.open(tmp_path, force=True) as second:
            winner = second.recording("sample").open_lane()
            assert isinstance(winner, FencedLaneWriter)
            with pytest.raises(LaneTaken, match="taken by another writer"):
                sleeper._new_lane({}, documents, LaneLimits(), 0)
            sleeper.lanes()  # does not fence the lane of a newer owner
            winner.append(batches(1, 1))
            assert check_sample(second.recording("sample").reader(), {"p": 1}) == {"p": 1}


def test_a_writer_killed_between_rows_and_record_leaves_nothing_visible(tmp_path: Path) -> None:
    kill_between_rows_and_record(str(tmp_path / "store"))
