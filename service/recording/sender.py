"""The recorder's own thread: names and converts queued rows, cuts batches and appends them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import (
    Conflict,
    DeadlineExceeded,
    Fenced,
    IsoglossError,
    ServerUnavailable,
    StorageError,
)
from isogloss.models import check_mode
from isogloss.service.recording.appender import BatchStream
from isogloss.service.recording.options import RecorderOptions, SampleRate
from isogloss.service.recording.packing import Packer, StoredRows
from isogloss.service.recording.queue import PassQueue, QueuedPass
from isogloss.service.recording.sampling import producer_of
from isogloss.service.recording.tally import Tally
from isogloss.service.recording.target import Target
from isogloss.service.recording.tensors import to_stored
from isogloss.service.recording.texts import DocumentNames, NamedDocument
from isogloss.service.transport.patience import RECONNECT_S, Patience
from isogloss.store import Document, RecordingSpec, RowBatch, check_document

_log = logging.getLogger(__name__)
_LOOK_S = 1.0
"""How often the thread looks after its stream while no pass comes."""
_NO_SPANS = np.zeros((0, 2), np.uint32)


class Sender:
    """Sends what is queued to the recording, from a thread of its own."""

    def __init__(
        self,
        queue: PassQueue,
        target: Target,
        names: DocumentNames,
        tally: Tally,
        *,
        producer: str,
        options: RecorderOptions,
        skip_first: int = 0,
    ) -> None:
        """Make a sender; :meth:`run` is its thread.

        Args:
            queue: what is sent.
            target: where to.
            names: names documents that are not named yet.
            tally: counts.
            producer: name of the stream of batches.
            options: size of batches, deadlines, and whether documents are stored again.
            skip_first: how many content tokens of each document have no row.
        """
        self._queue = queue
        self._target = target
        self._names = names
        self._tally = tally
        self._producer = producer
        self._options = options
        self._skip_first = skip_first
        self._lock = threading.Lock()
        self._stream: BatchStream | None = None
        self._rate: SampleRate | None = None
        self._packer: Packer | None = None
        self._in_hand: QueuedPass | None = None
        self._ready: deque[RowBatch] = deque()
        self._sent: deque[RowBatch] = deque()
        self._seen: Mapping[str, str] = {}
        self._was_given_up = False
        self._last_route = "not open before the first pass"
        self.error: Exception | None = None
        """Why recording stopped; None as long as it goes on."""

    @property
    def route(self) -> str:
        """How rows reach the disk."""
        stream = self._stream
        return self._last_route if stream is None else stream.route

    def open(self, widths: Mapping[str, int], seen: Mapping[str, str]) -> None:
        """Create the recording where there is none, and open the stream into it.

        Args:
            widths: width of each site.
            seen: settings that a pass showed.

        Raises:
            AlreadyExists: a different recording has that id.
            IsoglossError: the stream cannot be opened.
        """
        if self._stream is None:
            self.show(seen)
            self._target.create(widths, seen)
            self._switch(self._queue.rate)

    def show(self, seen: Mapping[str, str]) -> None:
        """Say what the first pass showed of the settings on which rows depend."""
        self._seen = self._seen or seen

    def confirm(self) -> None:
        """Count the batches that became durable meanwhile."""
        with self._lock:
            self._confirm()

    def run(self) -> None:
        """Send what is queued until the queue is closed, and wait until it is durable."""
        try:
            while (queued := self._next()) is not None:
                self._in_hand = queued
                self._send(queued)
            self._write_rest()
            self._end()
        except Exception as error:  # whatever it is, the loop is told through self.error
            self._stop(error)
            try:
                self._save_what_is_left(error)
            except Exception as late:  # nothing more can be done for what is left
                _log.warning("rows that were queued could not be stored: %s", late)

    def give_up(self, error: Exception) -> None:
        """End what the thread waits for; called by another thread."""
        self._was_given_up = True
        self._stop(error)
        stream = self._stream
        if stream is not None:
            stream.close(flush=False, timeout_s=0.0)

    def _stop(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            _log.error("recording stopped, the loop goes on: %s", error)
        self._queue.stop(self.error)

    # Rows.

    def _next(self) -> QueuedPass | None:
        """Wait for the next pass; see meanwhile that the stream goes on."""
        while True:
            if self._queue.wait(_LOOK_S):
                asked = self._queue.flush_asked()
                if not asked:
                    return self._queue.take()
                self._flush(asked)
            elif self._sent and self._stream is not None:
                with suppress(DeadlineExceeded):
                    self._stream.flush(0.0)
                self.confirm()

    def _flush(self, number: int) -> None:
        """Make durable what was taken; where the store is slow, again until the loop gives up."""
        self._write_rest()
        if self._stream is not None:
            try:
                self._stream.flush(self._options.wait_s)
            except DeadlineExceeded:
                return
            self.confirm()
        self._queue.flushed(number)

    def _send(self, queued: QueuedPass) -> None:
        self._opened(queued)
        self._pack(queued)
        self._write_ready()

    def _pack(self, queued: QueuedPass) -> None:
        """Cut the rows of a pass into batches; one that is odd is left out, others are not."""
        spec, packer = self._target.spec, self._packer
        if spec is None or packer is None:
            raise Conflict("the stream of this recorder is not open: enter it again")
        known = self._target.known(queued.step)
        try:
            check_mode(queued.mode, spec.provenance)  # another recorder may have made it meanwhile
            stored = self._stored(queued, spec, known)
        except IsoglossError as error:
            self._tally.leave_out(error)
            self._tally.add("rows", -queued.rows)
        else:
            self._tally.add("rows", (0 if stored is None else stored.rows) - queued.rows)
            self._ready.extend([] if stored is None else packer.add(stored))
        self._in_hand = None
        self._queue.done()

    def _opened(self, queued: QueuedPass) -> None:
        """Open the stream for the share of documents that a pass was taken with."""
        if self._stream is None:
            widths = {name: rows.tensor.shape[1] for name, rows in queued.sites.items()}
            patience = Patience(min(RECONNECT_S, self._options.wait_s))
            while True:
                try:
                    self._target.create(widths, self._seen)
                    self._switch(queued.rate)
                except ServerUnavailable as error:
                    time.sleep(patience.pause_s(error))
                else:
                    return
        if queued.rate != self._rate:
            self._write_rest()
            self._switch(queued.rate)

    def _switch(self, rate: SampleRate) -> None:
        """Open the stream whose producer's name says which share of documents it holds."""
        if self._stream is not None:
            self._end()
        self._rate = rate
        self._stream = stream = self._target.open(producer_of(self._producer, rate))
        if self._target.spec is not None:
            options = self._options
            self._packer = Packer(self._target.spec, options.batch_rows, stream.batch_bytes)

    def _stored(
        self, queued: QueuedPass, spec: RecordingSpec, known: AbstractSet[int]
    ) -> StoredRows | None:
        """Return the rows of documents that are not known yet, as they will be stored."""
        named = queued.named or self._names.name(
            queued.documents, queued.content(), queued.texts, queued.groups
        )
        for one in named:
            check_document(one.document)
        first, skip = self._choose(queued, named, spec, known)
        rank = np.arange(queued.rows) - first[queued.document_index]
        where = np.flatnonzero(rank >= skip[queued.document_index])
        sites = self._sites(queued, where, spec)
        self._target.take(queued.step, {n.document.id for n in named})
        if not len(where):
            return None
        index = queued.document_index[where]
        ids = np.array([n.document.id for n in named], np.uint64)
        which, counts = np.unique(index, return_counts=True)
        span = np.concatenate([n.span for n in named if n.span is not None] or [_NO_SPANS])
        return StoredRows(
            sites=sites,
            token_id=queued.token_id[where],
            document=ids[index],
            position=queued.position[where],
            span=span[where] if spec.has_spans else None,
            documents=tuple(named[i].document for i in which.tolist()),
            ends=np.cumsum(counts),
            step=queued.step,
        )

    def _sites(
        self, queued: QueuedPass, where: NDArray[np.intp], spec: RecordingSpec
    ) -> dict[str, NDArray[np.generic]]:
        sites: dict[str, NDArray[np.generic]] = {}
        for site in spec.sites:
            rows = queued.sites[site.name]
            if len(where) < queued.rows:
                rows = rows.only(where)
            sites[site.name], overflows = to_stored(rows, site)
            if overflows:
                self._tally.overflow(site.name, overflows, site.dtype)
        return sites

    def _choose(
        self,
        queued: QueuedPass,
        named: tuple[NamedDocument, ...],
        spec: RecordingSpec,
        known: AbstractSet[int],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each document its first row, and how many of its rows are left out."""
        documents = len(named)
        first = np.searchsorted(queued.document_index, np.arange(documents))
        rows = np.diff(np.append(first, queued.rows))
        skip = np.full(documents, self._skip_first, np.int64)
        is_once = self._target.is_once(queued.step) and not self._options.again
        seen: set[int] = set()
        for i, found in enumerate(named):
            document = found.document
            if is_once and document.id in seen:
                skip[i] = rows[i]
                self._tally.add("known")
            elif document.id in known and not self._options.again:
                stored = self._rows_of_a_part(document, int(rows[i]), queued.step, spec)
                skip[i] = rows[i] if stored is None else self._skip_first + stored
                self._tally.add("known", int(stored is None))
            elif spec.has_spans and document.text is None and rows[i] > self._skip_first:
                self._tally.add("without_text")
            seen.add(document.id)
        return first, skip

    def _rows_of_a_part(
        self, document: Document, rows: int, step: int, spec: RecordingSpec
    ) -> int | None:
        """Return how many rows are stored of a document that a crash may have cut; else None.

        Only a document that is larger than a batch is in several.
        """
        if self._stream is None or rows * spec.row_bytes < self._stream.batch_bytes:
            return None
        stored = self._target.stored_rows(document.id, step)
        return stored if stored < rows - self._skip_first else None

    # Batches.

    def _write_rest(self) -> None:
        if self._packer is not None:
            self._ready.extend(self._packer.rest())
        self._write_ready()

    def _write_ready(self) -> None:
        while self._ready:
            stream = self._stream
            if stream is None:
                raise Conflict("the stream of this recorder is not open: enter it again")
            batch = self._ready.popleft()
            batch = replace(batch, producer=stream.producer, sequence=stream.next_sequence)
            with self._lock:
                self._sent.append(batch)
            self._write(stream, batch)
            self.confirm()

    def _write(self, stream: BatchStream, batch: RowBatch) -> None:
        while True:
            try:
                stream.write(batch, self._options.wait_s)
            except DeadlineExceeded as error:  # the loop is told by its own waits
                if self._was_given_up:
                    raise
                _log.warning("a batch waits for the store: %s", error)
            else:
                return

    def _confirm(self) -> None:
        stream = self._stream
        if stream is None:
            return
        durable = stream.durable_sequence
        while self._sent and self._sent[0].sequence <= durable:
            self._tally.add("durable", self._sent.popleft().rows)

    def _end(self) -> None:
        """Wait until everything is durable, and close the stream."""
        if self._stream is None:
            return
        self._stream.flush(self._options.wait_s)
        self.confirm()
        self._stream.close(timeout_s=self._options.wait_s)

    # When the stream failed.

    def _save_what_is_left(self, cause: Exception) -> None:
        """Send what was queued before recording stopped, where that can be.

        Each batch is sent by itself, so that one that is refused costs only its own rows. Where the
        store is away or full, one more try is made when the recorder is left.
        """
        if isinstance(cause, ServerUnavailable | StorageError):
            self._queue.wait_closed()
        self.confirm()
        self._discard_stream()
        batches = self._left()
        # who took the producer over numbers its own batches: ours are none of those
        is_over = self._was_given_up or isinstance(cause, Fenced)
        can_send = not is_over and not isinstance(cause, DeadlineExceeded)
        while batches and can_send:
            batch = batches.popleft()
            try:
                self._send_alone(batch)
            except ServerUnavailable:
                batches.appendleft(batch)
                break
            except IsoglossError as error:
                self._tally.add("lost", batch.rows)
                _log.warning("%d rows could not be stored: %s", batch.rows, error)
                self._discard_stream()
        self._tally.add("lost", sum(batch.rows for batch in batches))
        self._discard_stream()

    def _left(self) -> deque[RowBatch]:
        """Return all rows that are not durable, as batches; count those that cannot be."""
        with self._lock:
            batches = deque([*self._sent, *self._ready])
            self._sent.clear()
        self._ready.clear()
        waiting = [*([] if self._in_hand is None else [self._in_hand]), *self._queue.drain()]
        if self._packer is None or self._was_given_up:
            self._tally.add("lost", sum(queued.rows for queued in waiting))
            return batches
        for queued in waiting:
            self._pack(queued)
        batches.extend([*self._ready, *self._packer.rest()])
        self._ready.clear()
        return batches

    def _send_alone(self, batch: RowBatch) -> None:
        if self._stream is None:
            rate = self._rate or SampleRate(share=1.0)
            self._stream = self._target.open(producer_of(self._producer, rate))
        stream = self._stream
        if batch.producer == stream.producer and batch.sequence <= stream.durable_sequence:
            self._tally.add("durable", batch.rows)
            return
        stream.write(
            replace(batch, producer=stream.producer, sequence=stream.next_sequence),
            self._options.wait_s,
        )
        stream.flush(self._options.wait_s)
        self._tally.add("durable", batch.rows)

    def _discard_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._last_route = stream.route
            stream.close(flush=False, timeout_s=self._options.wait_s)
