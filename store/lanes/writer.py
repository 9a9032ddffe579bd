"""Lane writers: group commits to the site files and the log of one lane.

A commit writes the rows to the site files and one frame to the log (token columns, producers'
cursors, checksums of the rows), syncs all of them together, and is acknowledged when all are on
disk. A frame therefore proves that all frames before it are durable with their rows; the newest
frame proves its own rows where their checksums are right.
"""

import contextlib
import errno
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import (
    Conflict,
    InvalidInput,
    IsoglossError,
    LaneEnded,
    ResourceExhausted,
    SequenceGap,
    StorageFull,
)
from isogloss.short_repr import short_repr
from isogloss.store.disk.filesystem import FULL_ERRNOS, FileSystem, write_new
from isogloss.store.disk.open_files import NO_DESCRIPTORS, check_open_files
from isogloss.store.lanes.lane_directory import LOG_NAME, enter_lane
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.lanes.log_frames import (
    KIND_COMMIT,
    KIND_LANE,
    CommitFrame,
    encode_frame,
    lane_payload,
)
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.lanes.recording_version import allow_steps
from isogloss.store.lanes.seal import Seal, note_seal, write_seal
from isogloss.store.schema.batch import RowBatch, TokenColumns, as_bytes
from isogloss.store.schema.document import Document, DocumentTable
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.layout import array_metadata, site_directory
from isogloss.store.shards.writer import ShardWriter

_log = logging.getLogger(__name__)

_LOG_STEP_BYTES = 256 << 10
"""The log is extended in steps of this size."""

_SHORT = 256
"""A column of so many rows is sooner made a set as it is than searched for its runs."""

PUBLISH_S = 5.0
"""How often a live lane brings the ``shape`` of its arrays up to date, in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """State of a lane after an append: everything in it is durable."""

    lane: str
    """Name of the lane."""

    rows: int
    """Committed rows of the lane."""

    cursors: Mapping[str, int]
    """Last durable sequence number of every producer of the batches appended."""

    __repr__ = short_repr


class LaneWriter:
    """Writes one lane, from its creation to its end; safe to call from several threads.

    Returned by :meth:`Recording.open_lane`. A context manager that closes the lane on leaving.
    """

    def __init__(
        self,
        *,
        files: FileSystem,
        directory: Path,
        spec: RecordingSpec,
        header: LaneHeader,
        cursors: Mapping[str, int],
        documents: DocumentTable,
        limits: LaneLimits,
        rows_before: int,
    ) -> None:
        self._files = files
        self._directory = directory
        self._spec = spec
        self._header = header
        self._cursors = dict(cursors)
        self._own_cursors: dict[str, int] = {}
        self._documents = documents
        self._limits = limits
        self._rows_before = rows_before
        self._rows = 0
        self._frames = 1
        self._log_bytes = 0
        self._log_length = 0
        self._log: int | None = None
        self._ended: str | None = None
        self._takes_steps = False
        self._published = (-1, files.monotonic_s())
        self._lock = threading.RLock()
        self._sites = ShardWriter(files, directory, header.layouts, self._sync_directory)
        self._create()

    @property
    def name(self) -> str:
        """Name of the lane."""
        return self._directory.name

    @property
    def rows(self) -> int:
        """Committed rows of the lane."""
        return self._rows

    @property
    def cursors(self) -> Mapping[str, int]:
        """Last durable sequence number of each producer, over all lanes of the recording."""
        return dict(self._cursors)

    @property
    def own_cursors(self) -> Mapping[str, int]:
        """Last durable sequence number of the producers that wrote to this lane."""
        return dict(self._own_cursors)

    @property
    def log_bytes(self) -> int:
        """Bytes of the log that are durable."""
        return self._log_bytes

    @property
    def is_open(self) -> bool:
        """Whether the lane still takes batches."""
        return self._log is not None and self._ended is None

    def __enter__(self) -> "LaneWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _create(self) -> None:
        """Create and sync the lane's files, then write frame 0: from then on the lane exists.

        The manifest names it last, so that no crash leaves a lane there that is not on the disk.
        """
        files = self._files
        if files.can_map:
            check_open_files(len(self._spec.sites) + 1, f"a lane of {len(self._spec.sites)} sites")
        files.make_directory(self._directory)
        files.sync_directory(self._directory.parent)
        log = files.create(self._directory / LOG_NAME)
        self._log = log
        if not files.lock(log):
            raise Conflict(f"the log of new lane {self.name!r} is locked: another writer took it")
        for index, (site, layout) in enumerate(
            zip(self._spec.sites, self._header.layouts, strict=True)
        ):
            directory = self._directory / site_directory(index)
            files.make_directory(directory)
            files.make_directory(directory / "c")
            write_new(files, directory / "zarr.json", [array_metadata(site, layout, 0)])
            files.sync_directory(directory)
        files.sync_directory(self._directory)
        frame = encode_frame(KIND_LANE, self._header.epoch, 0, lane_payload(self._header.to_dict()))
        files.write(log, frame, 0)
        files.sync_data(log)
        enter_lane(files, self._recording_directory, self.name)
        self._log_bytes = sum(len(piece) for piece in frame)

    def append(self, batches: Sequence[RowBatch]) -> Commit:
        """Commit batches in one group: all are durable when this returns, or none is.

        A batch whose sequence number is committed already is acknowledged without writing.

        Args:
            batches: any number of batches, of any producers; those of one producer in ascending
                sequence.

        Returns:
            The state of the lane after the append.

        Raises:
            SequenceGap: a producer skipped a number; nothing was accepted.
            ShapeError: a batch does not fit the recording; nothing was accepted.
            DocumentMismatch: two documents share a key and differ; nothing was accepted.
            StorageFull: the disk or a limit is full; nothing was accepted, and the lane goes on.
            ResourceExhausted: this process has too many files open; the same holds.
            LaneEnded: the lane is closed, or a write failed for good. What was acknowledged is
                safe; open a new lane.
            InvalidInput: a row is of a document that no batch described; nothing was accepted.
            NonFiniteRows: rows hold NaN or infinity, and the recording refuses them; nothing was
                accepted.
        """
        with self._lock:
            self._check_open()
            accepted, cursors, documents = self._admit(batches)
            if accepted:
                try:
                    self._limits.check(
                        self._files,
                        self._directory,
                        rows=self._rows_before + self._rows,
                        row_bytes=self._spec.row_bytes + (24 if self._spec.has_spans else 16),
                        more_rows=sum(batch.rows for batch in accepted),
                    )
                    self._allow_steps(accepted)
                    self._commit(accepted, cursors, documents)
                except StorageFull:
                    raise
                except LaneEnded:
                    self._release()
                    raise
                except OSError as error:
                    raise self._refusal(error) from error
            producers = {batch.producer for batch in batches}
            result = Commit(
                lane=self.name,
                rows=self._rows,
                cursors={producer: self._cursors[producer] for producer in producers},
            )
            self._publish_when_due()
            return result

    def _refusal(self, error: OSError) -> IsoglossError:
        """Return what to tell whoever appended; end the lane unless it can go on."""
        if error.errno in FULL_ERRNOS:
            return StorageFull(
                f"lane {self.name!r} cannot grow beyond {self._rows} rows: {error}; free space and "
                "send the batches again"
            )
        if error.errno in NO_DESCRIPTORS:
            return ResourceExhausted(
                f"lane {self.name!r} cannot open the files of its sites: {error}; raise "
                "`ulimit -n` of this process, and send the batches again"
            )
        ended = self._end(error)
        self._release()
        return ended

    def _check_open(self) -> None:
        if self._ended is not None:
            raise LaneEnded(f"lane {self.name!r} ended: {self._ended}; open a new lane")
        if self._log is None:
            raise LaneEnded(f"lane {self.name!r} is closed: open a new lane")

    def _admit(
        self, batches: Sequence[RowBatch]
    ) -> tuple[list[RowBatch], dict[str, int], list[Document]]:
        """Return the batches to write, the cursors after them and the documents they add."""
        cursors: dict[str, int] = {}
        accepted: list[RowBatch] = []
        added = DocumentTable()
        documents: list[Document] = []
        for batch in batches:
            batch.check(self._spec)
            last = cursors.get(batch.producer, self._cursors.get(batch.producer, 0))
            if batch.sequence <= last:
                continue
            if batch.sequence != last + 1:
                raise SequenceGap(
                    f"producer {batch.producer!r} sent batch {batch.sequence} after {last}: send "
                    f"{last + 1} first"
                )
            documents += [
                document
                for document in batch.documents
                if self._documents.check(document) and added.add(document)
            ]
            self._check_documents(batch, added)
            cursors[batch.producer] = batch.sequence
            accepted.append(batch)
        return accepted, cursors, documents

    def _check_documents(self, batch: RowBatch, added: DocumentTable) -> None:
        for document in _distinct(batch.document):
            if document not in self._documents and document not in added:
                raise InvalidInput(
                    f"batch {batch.sequence} of producer {batch.producer!r} has rows of document "
                    f"{document:#018x}, which no batch described: put it in `documents`"
                )

    @property
    def _recording_directory(self) -> Path:
        return self._directory.parent.parent

    def _allow_steps(self, batches: Sequence[RowBatch]) -> None:
        """Mark the recording before the first rows with a step are written to it."""
        if not self._takes_steps and any(batch.step for batch in batches):
            allow_steps(self._files, self._recording_directory)
            self._takes_steps = True

    def _commit(
        self, batches: list[RowBatch], cursors: Mapping[str, int], documents: list[Document]
    ) -> None:
        rows = sum(batch.rows for batch in batches)
        columns = [batch.columns for batch in batches]
        ranges = self._sites.write(
            self._rows,
            [[as_bytes(b.sites[site.name]) for b in batches] for site in self._spec.sites],
        )
        frame = CommitFrame(
            first_row=self._rows,
            rows=rows,
            time_s=self._files.time_s(),
            cursors=cursors,
            ranges=tuple(ranges),
            columns=columns[0]
            if len(columns) == 1
            else TokenColumns.concatenate(columns, self._spec.has_spans),
            documents=tuple(documents),
        )
        pieces = encode_frame(KIND_COMMIT, self._header.epoch, self._frames, frame.to_buffers())
        self._append_frame(pieces)
        self._rows += rows
        self._cursors.update(cursors)
        self._own_cursors.update(cursors)
        for document in documents:
            self._documents.add(document)

    def _append_frame(self, pieces: Sequence[bytes | NDArray[np.uint8]]) -> None:
        """Write a frame, and make it durable together with the rows written before."""
        if self._log is None:
            raise LaneEnded(f"lane {self.name!r} is closed: open a new lane")
        end = self._log_bytes + sum(len(piece) for piece in pieces)
        if end > self._log_length:
            self._reserve_log(self._log, end)
        self._files.write(self._log, pieces, self._log_bytes)
        self._sync([*self._sites.descriptors, self._log])
        self._sites.close_filled()
        self._log_bytes = end
        self._frames += 1

    def _reserve_log(self, log: int, length: int) -> None:
        """Extend the log with zeros to at least ``length``, unless the disk is full."""
        length += -length % _LOG_STEP_BYTES
        try:
            self._files.allocate(log, length)
            self._log_length = length
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise

    def _sync(self, descriptors: Sequence[int]) -> None:
        try:
            self._files.sync_together(descriptors)
        except OSError as error:
            raise self._end(error) from error

    def _sync_directory(self, path: Path) -> None:
        try:
            self._files.sync_directory(path)
        except OSError as error:
            if error.errno in NO_DESCRIPTORS:  # it was not opened, so nothing was lost
                raise
            raise self._end(error) from error

    def _end(self, error: OSError) -> LaneEnded:
        """Mark the lane as ended, after a failure that may have lost unacknowledged bytes."""
        self._ended = f"writing failed after {self._rows} rows ({error})"
        if error.errno == errno.ESTALE and self._log is not None:
            # files were deleted: what was acknowledged keeps its numbers, which nobody tells later
            with contextlib.suppress(OSError):  # the lane is gone too: its manifest names it
                self._write_seal(self._log, str(error) if self._rows else "")
        return LaneEnded(f"lane {self.name!r} ended: {self._ended}; open a new lane")

    def _release(self) -> None:
        self._sites.close()
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._files.close(self._log)
            self._log = None

    def _publish_when_due(self) -> None:
        if self._files.monotonic_s() - self._published[1] < PUBLISH_S:
            return
        try:
            self.publish()
        except OSError as error:
            _log.warning("lane %s: zarr.json stays at %d rows: %s", self.name, self._rows, error)
            self._published = (self._published[0], self._files.monotonic_s())

    def publish(self) -> None:
        """Write the number of committed rows to each array's ``shape``, for plain zarr readers."""
        with self._lock:
            if self._published[0] != self._rows:
                publish_shapes(self._files, self._directory, self._spec, self._header, self._rows)
            self._published = (self._rows, self._files.monotonic_s())

    def close(self) -> None:
        """End the lane: publish the arrays' shapes and write the seal. Later calls do nothing.

        Raises:
            LaneEnded: the seal could not be written; the rows are safe, and the owner seals the
                lane when the store is next opened.
        """
        with self._lock:
            if self._log is None:
                return
            try:
                self.publish()
                self._write_seal(self._log)
            except OSError as error:
                raise LaneEnded(
                    f"lane {self.name!r} could not be sealed ({error}): its {self._rows} rows are "
                    "safe and are sealed when the store is next opened"
                ) from error
            finally:
                self._ended = "it was closed"
                self._release()

    def _write_seal(self, log: int, damage: str = "") -> None:
        self._trim(log)
        seal = Seal(
            lane=self.name,
            epoch=self._header.epoch,
            rows=self._rows,
            frames=self._frames,
            log_bytes=self._log_bytes,
            cursors=self._own_cursors,
            reason="closed",
            damage=damage,
        )
        write_seal(self._files, self._directory, seal)
        note_seal(self._files, self._recording_directory, seal)

    def _trim(self, log: int) -> None:
        """Cut off the log's reserved space that was not used; errors are ignored."""
        self._sites.trim(self._rows)
        with contextlib.suppress(OSError):
            self._files.truncate(log, self._log_bytes)

    def seal(self) -> None:
        """Do what :meth:`close` does. Columns and statistics are derived when asked for."""
        self.close()


def _distinct(column: NDArray[np.generic]) -> set[int]:
    """Return the distinct numbers of a column of runs, faster than ``np.unique``."""
    if len(column) <= _SHORT:
        return set(column.tolist())
    starts = np.flatnonzero(column[1:] != column[:-1])
    return {*column[:1].tolist(), *column[starts + 1].tolist()}


def publish_shapes(
    files: FileSystem, directory: Path, spec: RecordingSpec, header: LaneHeader, rows: int
) -> None:
    """Write the ``zarr.json`` of every site of a lane."""
    for index, (site, layout) in enumerate(zip(spec.sites, header.layouts, strict=True)):
        content = array_metadata(site, layout, rows)
        files.write_atomic(directory / site_directory(index) / "zarr.json", content)


class OwnerLaneWriter(LaneWriter):
    """A lane of the store's owner. It refuses producers that were given to a direct lane."""

    _lent: frozenset[str] = frozenset()

    def lend(self, producers: Iterable[str]) -> None:
        """Refuse batches of these producers from now on, since a direct lane takes them."""
        with self._lock:
            self._lent |= frozenset(producers)

    def has_lent(self, producer: str) -> bool:
        """Whether a producer went to a direct lane after this lane was opened, or just before."""
        return producer in self._lent

    def append(self, batches: Sequence[RowBatch]) -> Commit:
        """Commit batches in one group, as :meth:`LaneWriter.append` does.

        Args:
            batches: any number, of any producers; those of one producer in ascending sequence.

        Returns:
            What is durable now.

        Raises:
            Conflict: a producer went to a direct lane; nothing was accepted.
        """
        with self._lock:
            gone = sorted({batch.producer for batch in batches} & self._lent)
            if gone:
                raise Conflict(
                    f"producers {gone} have a direct lane: end that one, or claim them back, then "
                    f"close lane {self.name!r} and open a new one to append here"
                )
            return super().append(batches)
