"""Fenced lanes are read from their commits, and from their shards once moved."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isogloss.store import (
    Recording,
    RecordingSpec,
    RowBatch,
    Store,
)
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import check_sample, sample_batch, sample_spec
from isogloss.store.testing.reader_contract import ReaderContract

SPEC = sample_spec()


SHARD_BYTES = 8 << 10


class InFencedStores:
    """Recordings of stores that are fenced by exclusive creation."""

    @contextmanager
    def make(self, directory: Path, spec: RecordingSpec) -> Generator[Recording]:
        with Store.open(directory, fencing="create") as store:
            yield store.create_recording(spec, ["a"], shard_bytes=SHARD_BYTES)


class TestReaderOfFencedLanes(InFencedStores, ReaderContract):
    """Of lanes that ended and were not moved."""


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


def test_a_pinned_reader_goes_on_while_its_lane_is_moved(store: Store) -> None:
    recording = new_recording(store)
    fill(recording, 1, 6)
    early, late = recording.reader(), recording.reader()
    assert check_sample(early, {"p": 12}) == {"p": 12}
    recording.derive()
    assert check_sample(early, {"p": 12}) == {"p": 12}
    assert check_sample(late, {"p": 12}) == {"p": 12}
