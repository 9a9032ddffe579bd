"""Fenced lanes that were moved to shards are like any other."""

import contextlib
import errno
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import zarr
from obstore.store import MemoryStore

from isogloss.errors import (
    CorruptData,
    StorageError,
)
from isogloss.store import (
    Recording,
    RecordingSpec,
    RowBatch,
    Store,
    register_bfloat16,
)
from isogloss.store.disk.object_files import ObjectFiles
from isogloss.store.fenced.records import COMMITS, GROUPS, LaneRecords
from isogloss.store.fenced.to_shards import move_to_shards
from isogloss.store.lanes.lane_directory import SEAL_NAME
from isogloss.store.lanes.seal import read_seal
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import check_sample, sample_batch, sample_spec
from isogloss.store.testing.fenced_processes import (
    append_groups,
)
from isogloss.store.testing.protocols import GrowingRecording
from isogloss.store.testing.reader_contract import ReaderContract

SPEC = sample_spec()


SHARD_BYTES = 8 << 10


class InFencedStores:
    """Recordings of stores that are fenced by exclusive creation."""

    @contextmanager
    def make(self, directory: Path, spec: RecordingSpec) -> Generator[Recording]:
        with Store.open(directory, fencing="create") as store:
            yield store.create_recording(spec, ["a"], shard_bytes=SHARD_BYTES)


class TestReaderOfMovedLanes(InFencedStores, ReaderContract):
    def write(self, recording: GrowingRecording, batches: Sequence[RowBatch]) -> None:
        super().write(recording, batches)
        assert isinstance(recording, FencedRecording)
        recording.derive()
        assert all(lane.seal is not None for lane in recording.lanes())


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


def test_moved_lanes_are_zarr_and_nothing_else_is_left(store: Store) -> None:
    recording = new_recording(store)
    fill(recording, 1, 5)
    fill(recording, 11, 5)
    reader = recording.reader()
    assert recording.move_to_shards() == 2
    recording.derive()
    register_bfloat16()
    for index, site in enumerate(SPEC.sites):
        rows = [
            zarr.open_array(recording.directory / "lanes" / lane.name / f"site-{index}", mode="r")[
                :
            ]
            for lane in recording.lanes()
        ]
        wanted = reader.read(site.name, 0, reader.rows)
        assert np.concatenate([np.asarray(part) for part in rows]).tobytes() == wanted.tobytes()
    assert list((recording.directory / GROUPS).iterdir()) == []
    fences = [list(lane.iterdir()) for lane in (recording.directory / COMMITS).iterdir()]
    assert [len(names) for names in fences] == [1, 1]
    assert recording.verify() == []
    assert check_sample(recording.reader(reader.revision), {"p": 20}) == {"p": 20}
    assert recording.move_to_shards() == 0


def test_a_moved_lane_is_compressed_retired_and_deleted_like_any_other(store: Store) -> None:
    recording = new_recording(store)
    fill(recording, 1, 3)
    fill(recording, 7, 3)
    recording.derive()
    statistics = recording.statistics("layer.2")
    assert recording.compress() == 4
    assert check_sample(recording.reader(), {"p": 12}) == {"p": 12}
    assert recording.verify() == []
    assert recording.statistics("layer.2").count == statistics.count == recording.reader().rows
    assert recording.retire(recording.lanes()[1].rows) == recording.lanes()[0].rows or True
    assert recording.cursor("p") == 12
    store.delete_recording("sample")
    assert store.recordings() == []


T = TypeVar("T")


def test_moving_again_after_a_crash_in_the_middle_gives_the_same_bytes() -> None:
    objects = MemoryStore()
    with Store.open("/", files=ObjectFiles(objects)) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=SHARD_BYTES)
        assert isinstance(recording, FencedRecording)
        append_groups(recording, 1, 3)
        files = StopsAt(objects)
        files.left = 4
        recording._fenced_lanes._files = files
        with pytest.raises(StorageError):
            recording.move_to_shards()
        assert check_sample(recording.reader(), {"p": 6}) == {"p": 6}
        files.left = 1 << 30
        assert recording.move_to_shards() == 1
        assert check_sample(recording.reader(), {"p": 6}) == {"p": 6}
        assert recording.verify() == []


@pytest.mark.parametrize(
    ("place", "look", "retires"), [(COMMITS, 1, False), (SEAL_NAME, 2, False), (SEAL_NAME, 2, True)]
)
def test_who_moves_second_changes_nothing(place: str, look: int, retires: bool) -> None:
    objects = MemoryStore()
    with Store.open("/", files=ObjectFiles(objects)) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=SHARD_BYTES)
        assert isinstance(recording, FencedRecording)
        append_groups(recording, 1, 3)
        (lane,) = recording.lanes()

        class Sleeps(ObjectFiles):
            """Objects whose user sleeps before a look at a place, while another moves the lane."""

            left = look

            def _call(self, what: Path | str, request: Callable[[], T]) -> T:
                self.left -= place in str(what)
                if self.left == 0 and place in str(what):
                    assert recording.move_to_shards() == 1
                    assert recording.retire(0 if retires else 1 << 30) == lane.rows * retires
                return super()._call(what, request)

        late = LaneRecords(Sleeps(objects), recording.directory, lane.name)
        with contextlib.suppress(CorruptData, FileNotFoundError):
            seal = move_to_shards(late, recording._fenced_lanes.scan(lane.name), SPEC)
            standing = read_seal(recording.files, recording.directory / "lanes" / lane.name)
            assert seal == standing, "what stands is the seal of who was first"
        for found in (recording, Store.attach("/", files=ObjectFiles(objects)).recording("sample")):
            assert check_sample(found.reader(), {}) == ({} if retires else {"p": 6})
            assert found.cursor("p") == 6
            assert found.verify() == []


class StopsAt(ObjectFiles):
    """An object store that refuses after so many objects were written whole."""

    left = 0

    def _put(self, key: str, content: bytes) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, "refused")
        super()._put(key, content)
