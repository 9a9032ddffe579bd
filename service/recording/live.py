"""Record a live model: hooks on its forward pass, a queue, and a thread that appends.

The hooks copy rows to the CPU and return. What goes wrong after that (a full queue, a lost server,
a refused batch) is counted and logged once. The loop that runs the model gets an exception only
with ``strict``.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from isogloss.errors import Conflict, InvalidInput, IsoglossError
from isogloss.models import PassReader, PassRows
from isogloss.service.recording.appender import BatchStream
from isogloss.service.recording.tensors import to_numpy
from isogloss.store import Document, RecordingSpec, RowBatch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecorderOptions:
    """Size of the queue of a live recorder, and what happens when it is full or an error comes."""

    on_full: Literal["block", "drop"] = "block"
    """When the queue is full: ``block`` makes the loop wait for room, ``drop`` leaves the pass out.
    """
    queue_bytes: int = 256 << 20
    """Most bytes of rows in the queue; a single pass may be larger than this."""
    batch_rows: int = 4096
    """Least rows of one batch; only the last one, at the recorder's end, may be smaller."""
    strict: bool = False
    """Whether errors are raised in the loop that runs the model."""

    def __post_init__(self) -> None:
        if self.on_full not in ("block", "drop"):
            raise InvalidInput(f"on_full is {self.on_full!r}, wanted 'block' or 'drop'")
        if self.queue_bytes < 1 or self.batch_rows < 1:
            raise InvalidInput(
                f"queue_bytes is {self.queue_bytes} and batch_rows {self.batch_rows}; "
                "both must be at least 1"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RecorderCounts:
    """How many passes and rows a recorder has seen, queued, stored and left out so far."""

    passes: int
    """Forward passes of the model."""
    rows: int
    """Rows taken into the queue."""
    durable_rows: int
    """Rows on the server's disk."""
    dropped_passes: int
    """Passes left out because the queue was full."""
    failed_passes: int
    """Passes left out because of an error; ``Recorder.error`` is the first error."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """The content rows of one forward pass, on the CPU."""

    sites: Mapping[str, NDArray[np.generic]]
    token_id: NDArray[np.uint32]
    document: NDArray[np.uint64]
    position: NDArray[np.uint32]
    documents: tuple[Document, ...]
    size: int


class Recorder:
    """Records the activations at a model's sites while it is entered. Made by ``client.record``.

    Each sequence of each pass is one document, whose id is made of its token ids. Its rows are the
    positions that the attention mask keeps, without special tokens.
    """

    def __init__(
        self,
        appender: BatchStream,
        module: nn.Module,
        spec: RecordingSpec,
        *,
        special_ids: Iterable[int] = (),
        options: RecorderOptions | None = None,
    ) -> None:
        """Make a recorder; it sets its hooks when it is entered.

        Args:
            appender: the producer's stream of batches; closed when the recorder is left.
            module: the live model; its forward pass takes ``input_ids`` by name, or as the first
                argument.
            spec: specification of the recording; its sites are names of submodules.
            special_ids: ids of the special tokens, of which no rows are recorded.
            options: size of the queue, and what happens when it is full.
        """
        self._appender = appender
        self._spec = spec
        self._options = options or RecorderOptions()
        self._reader = PassReader(
            module,
            [site.name for site in spec.sites],
            take=self._seen,
            leave_out=self._left_out,
            special_ids=special_ids,
        )
        self._changed = threading.Condition()
        self._queue: deque[_Rows] = deque()
        self._queued_bytes = 0
        self._unconfirmed: deque[tuple[int, int]] = deque()
        self._counts = {"passes": 0, "rows": 0, "durable": 0, "dropped": 0, "failed": 0}
        self._closing = False
        self._worker: threading.Thread | None = None
        self.error: Exception | None = None
        """The first thing that went wrong; None while all is well."""

    @property
    def counts(self) -> RecorderCounts:
        """How many passes and rows were seen, queued, dropped and made durable so far."""
        with self._changed:
            while self._unconfirmed and (
                self._unconfirmed[0][0] <= self._appender.durable_sequence
            ):
                self._counts["durable"] += self._unconfirmed.popleft()[1]
            return RecorderCounts(
                passes=self._counts["passes"],
                rows=self._counts["rows"],
                durable_rows=self._counts["durable"],
                dropped_passes=self._counts["dropped"],
                failed_passes=self._counts["failed"],
            )

    @property
    def route(self) -> str:
        """A text: ``direct`` to the disk, or ``through`` the owner, and why if not direct."""
        return self._appender.route

    def __enter__(self) -> "Recorder":
        if self._worker is not None:
            raise Conflict("this recorder was entered before: make a new one with client.record")
        self._reader.__enter__()
        self._worker = threading.Thread(target=self._append_all, name="isogloss-recorder")
        self._worker.daemon = True
        self._worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the hooks and wait until all queued rows are durable.

        With ``strict`` the recorder's first error is raised, unless the block raised one itself.
        """
        self._reader.__exit__(None, None, None)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join()
        try:
            self._appender.close(flush=self.error is None)
        except IsoglossError as late:
            self._fail(late)
        if self._options.strict and self.error is not None and error is None:
            raise self.error

    # In the loop.

    def _seen(self, rows: PassRows) -> None:
        self._counts["passes"] += 1
        try:
            self._check_error()
            self._take(self._on_cpu(rows))
        except Exception as error:  # a loop must survive its recorder, unless told otherwise
            if self._options.strict:
                raise
            self._counts["failed"] += 1
            self._fail(error)

    def _left_out(self, error: Exception) -> None:
        self._counts["passes"] += 1
        if self._options.strict:
            raise self.error or error
        self._counts["failed"] += 1
        self._fail(error)

    def _check_error(self) -> None:
        if self.error is not None:
            raise self.error

    def _on_cpu(self, rows: PassRows) -> _Rows:
        documents = [Document.from_token_ids(ids) for ids in rows.documents]
        names = np.array([document.id for document in documents], np.uint64)
        sites = {site.name: to_numpy(rows.sites[site.name], site) for site in self._spec.sites}
        return _Rows(
            sites=sites,
            token_id=rows.token_id,
            document=names[rows.document_index],
            position=rows.position,
            documents=tuple({document.id: document for document in documents}.values()),
            size=sum(kept.nbytes for kept in sites.values()) + 16 * rows.rows,
        )

    def _take(self, rows: _Rows) -> None:
        if not len(rows.token_id):
            return
        with self._changed:
            while self._queued_bytes and (
                self._queued_bytes + rows.size > self._options.queue_bytes
            ):
                if self._options.on_full == "drop":
                    self._counts["dropped"] += 1
                    return
                if self.error is not None:
                    raise self.error
                self._changed.wait(0.5)
            self._queue.append(rows)
            self._queued_bytes += rows.size
            self._counts["rows"] += len(rows.token_id)
            self._changed.notify_all()

    # In the recorder's own thread.

    def _append_all(self) -> None:
        waiting: list[_Rows] = []
        count = 0
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._queue or self._closing)
                    if self._queue:
                        rows = self._queue.popleft()
                        waiting.append(rows)
                        count += len(rows.token_id)
                    is_last = self._closing and not self._queue
                if waiting and (is_last or count >= self._options.batch_rows):
                    self._write(waiting)
                    waiting, count = [], 0
                if is_last:
                    return
        except Exception as error:  # told to the loop through self.error
            self._fail(error)

    def _write(self, waiting: Sequence[_Rows]) -> None:
        documents = {d.id: d for rows in waiting for d in rows.documents}
        sequence = self._appender.next_sequence
        batch = RowBatch(
            producer=self._appender.producer,
            sequence=sequence,
            sites={
                site.name: np.concatenate([rows.sites[site.name] for rows in waiting])
                for site in self._spec.sites
            },
            token_id=np.concatenate([rows.token_id for rows in waiting]),
            document=np.concatenate([rows.document for rows in waiting]),
            position=np.concatenate([rows.position for rows in waiting]),
            documents=tuple(documents.values()),
        )
        self._appender.write(batch)
        with self._changed:
            self._unconfirmed.append((sequence, batch.rows))
            self._queued_bytes -= sum(rows.size for rows in waiting)
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        with self._changed:
            if self.error is None:
                self.error = error
                _log.error("recording stopped, the loop goes on: %s", error)
            self._queue.clear()
            self._queued_bytes = 0
            self._changed.notify_all()


__all__ = ["Recorder", "RecorderCounts", "RecorderOptions"]
