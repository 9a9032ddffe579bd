"""What every batch, lane writer and reader must do, as tests to subclass.

Override ``make`` in a class whose name begins with ``Test``::

    class TestMyLaneWriter(LaneWriterContract):
        @contextmanager
        def make(self, directory: Path, spec: RecordingSpec) -> Generator[GrowingRecording]: ...

Needs pytest, which the rest of the store and of ``isogloss.store.testing`` does not.
"""

from isogloss.store.testing.batch_contract import RowBatchContract
from isogloss.store.testing.lane_contract import LaneWriterContract
from isogloss.store.testing.protocols import GrowingRecording, PinnedReader, WritableLane
from isogloss.store.testing.reader_contract import ReaderContract

__all__ = [
    "GrowingRecording",
    "LaneWriterContract",
    "PinnedReader",
    "ReaderContract",
    "RowBatchContract",
    "WritableLane",
]
