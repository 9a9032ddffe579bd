"""The contracts of batches, lanes and readers, on every implementation of today."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from isogloss.store import LaneWriter, Recording, RecordingSpec, RowBatch, Store
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.testing import SimulatedDisk, sample_batch
from isogloss.store.testing.batch_contract import RowBatchContract
from isogloss.store.testing.lane_contract import LaneWriterContract
from isogloss.store.testing.protocols import GrowingRecording
from isogloss.store.testing.reader_contract import ReaderContract

SHARD_BYTES = 8 << 10


class InStores:
    """Recordings of stores on the disk."""

    @contextmanager
    def make(self, directory: Path, spec: RecordingSpec) -> Generator[Recording]:
        with Store.open(directory) as store:
            yield store.create_recording(spec, ["a"], shard_bytes=SHARD_BYTES)


class OnSimulatedDisks:
    """Recordings without a store, in memory."""

    disks: ClassVar[dict[Path, SimulatedDisk]] = {}

    @contextmanager
    def make(self, directory: Path, spec: RecordingSpec) -> Generator[Recording]:
        root = Path("/recording")
        if directory not in self.disks:
            self.disks[directory] = SimulatedDisk()
            create_recording_files(self.disks[directory], root, spec, ["a"], SHARD_BYTES)
        recording = Recording(files=self.disks[directory], directory=root, etag="", is_owner=True)
        try:
            yield recording
        finally:
            recording.close()


class TestRowBatch(RowBatchContract):
    def make(self, spec: RecordingSpec, rows: int) -> RowBatch:
        return sample_batch(spec, "producer", 7, rows)


class TestLaneWriter(InStores, LaneWriterContract):
    pass


class TestLaneWriterOnASimulatedDisk(OnSimulatedDisks, LaneWriterContract):
    pass


class TestReader(InStores, ReaderContract):
    """Of sealed lanes, which can be mapped into memory."""


class TestReaderOfALiveLane(OnSimulatedDisks, ReaderContract):
    lane: LaneWriter | None = None

    def write(self, recording: GrowingRecording, batches: Sequence[RowBatch]) -> None:
        assert isinstance(recording, Recording)
        self.lane = self.lane or recording.open_lane()
        self.lane.append(batches)


class TestReaderOfCompressedLanes(OnSimulatedDisks, ReaderContract):
    def write(self, recording: GrowingRecording, batches: Sequence[RowBatch]) -> None:
        super().write(recording, batches)
        assert isinstance(recording, Recording)
        recording.derive()
        assert recording.compress() > 0
