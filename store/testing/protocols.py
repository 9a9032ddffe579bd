"""The members of a lane, a reader and a recording that the contract tests use, as protocols."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isogloss.store.lanes.writer import Commit
from isogloss.store.reading.shuffled import ShuffledBatch
from isogloss.store.schema.batch import RowBatch, TokenColumns
from isogloss.store.schema.document import Document
from isogloss.store.schema.recording_spec import Rows
from isogloss.store.schema.revision import Revision
from isogloss.store.schema.steps import StepInfo


@runtime_checkable
class WritableLane(Protocol):
    """The members of a :class:`~isogloss.store.LaneWriter` that the contracts use."""

    @property
    def name(self) -> str:
        """Name of the lane."""
        ...

    @property
    def rows(self) -> int:
        """Committed rows of the lane."""
        ...

    @property
    def cursors(self) -> Mapping[str, int]:
        """Last durable sequence number of each producer, over all lanes."""
        ...

    @property
    def own_cursors(self) -> Mapping[str, int]:
        """Last durable sequence number of the producers that wrote to this lane."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether the lane still takes batches."""
        ...

    def append(self, batches: Sequence[RowBatch]) -> Commit:
        """Commit batches in one group."""
        ...

    def close(self) -> None:
        """End the lane in good order."""
        ...


@runtime_checkable
class PinnedReader(Protocol):
    """The members of a :class:`~isogloss.store.RecordingReader` that the contracts use."""

    revision: Revision

    @property
    def rows(self) -> int:
        """Rows of the revision."""
        ...

    def read(self, site: str, start: int, stop: int) -> Rows:
        """Return rows ``[start, stop)`` of a site."""
        ...

    def take(self, site: str, rows: NDArray[np.int64]) -> Rows:
        """Return the given rows of a site, in the order given."""
        ...

    def tokens(self, start: int = 0, stop: int | None = None) -> TokenColumns:
        """Return the token columns of rows ``[start, stop)``."""
        ...

    def documents(self, step: int | None = None) -> dict[int, Document]:
        """Return the documents by id; of one step, or of all."""
        ...

    def known_documents(self, step: int = 0) -> dict[int, int]:
        """Return how many rows of each document were recorded at a step, by id."""
        ...

    def steps(self) -> tuple[StepInfo, ...]:
        """Return the training steps of which there are rows, ascending."""
        ...

    def keep_steps(self, steps: Iterable[int]) -> NDArray[np.bool_]:
        """Mark the rows of some training steps."""
        ...

    def document_rows(self, document: int, step: int | None = None) -> NDArray[np.int64]:
        """Return the rows of a document, ascending; of one step, or of all."""
        ...

    def steps_per_epoch(
        self, batch_rows: int, keep: NDArray[np.bool_] | None = None, world: int = 1
    ) -> int:
        """Return how many steps :meth:`shuffled` yields."""
        ...

    def shuffled(
        self,
        sites: Sequence[str],
        *,
        seed: int,
        epoch: int,
        batch_rows: int,
        block_rows: int = ...,
        window_rows: int = ...,
        keep: NDArray[np.bool_] | None = None,
        start_step: int = 0,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 1,
        mapped: bool = True,
    ) -> Iterator[ShuffledBatch]:
        """Yield the batches of one epoch in shuffled order."""
        ...


@runtime_checkable
class GrowingRecording(Protocol):
    """The members of a :class:`~isogloss.store.Recording` that the contracts use."""

    def cursor(self, producer: str) -> int:
        """Return the last committed sequence number of a producer; 0 when it has none."""
        ...

    def open_lane(self) -> WritableLane:
        """Start a new lane."""
        ...

    def reader(self, revision: Revision | None = None) -> PinnedReader:
        """Return a reader pinned to a revision; to all that is committed now by default."""
        ...
