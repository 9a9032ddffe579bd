"""Fenced lanes: written by exclusive creation, read from the files of their commits."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from isogloss.errors import Fenced, LaneEnded
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import for_each, make_directories, write_new
from isogloss.store.fenced.records import (
    KIND_FENCE,
    CommitNote,
    Fence,
    LaneRecords,
    birth_record,
    encode_record,
)
from isogloss.store.fenced.scan import FencedScan, end_scan
from isogloss.store.lanes.lane_directory import enter_lane
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.lanes.log_frames import KIND_COMMIT, CommitFrame
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.lanes.seal import note_seal
from isogloss.store.lanes.writer import OwnerLaneWriter
from isogloss.store.schema.batch import RowBatch, TokenColumns, as_bytes
from isogloss.store.schema.document import Document, DocumentTable
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.byte_range import ByteRange


class LaneTaken(Exception):
    """Another writer took the number of a new lane; the recording tries the next one."""


class FencedLaneWriter(OwnerLaneWriter):
    """Writes one lane by creating its records; safe to call from several threads.

    It does what :class:`~isogloss.store.LaneWriter` does, for storage without locks. A commit
    writes one file of rows a site, and then creates the next record. That fails once another owner
    fenced the lane: then :class:`~isogloss.errors.Fenced` is raised, and no reader sees these rows.
    """

    def __init__(
        self,
        *,
        records: LaneRecords,
        owner: int,
        spec: RecordingSpec,
        header: LaneHeader,
        cursors: Mapping[str, int],
        documents: DocumentTable,
        limits: LaneLimits,
        rows_before: int,
    ) -> None:
        self._records = records
        self._owner = owner
        self._tries = 0
        self._is_fenced = False
        self._is_open = False
        self._notes: list[CommitNote] = []
        super().__init__(
            files=records.files,
            directory=records.directory,
            spec=spec,
            header=header,
            cursors=cursors,
            documents=documents,
            limits=limits,
            rows_before=rows_before,
        )

    @property
    def name(self) -> str:
        """Name of the lane."""
        return self._records.name

    @property
    def is_open(self) -> bool:
        """Whether the lane still takes batches."""
        return self._is_open and self._ended is None

    @property
    def scan(self) -> FencedScan:
        """The commits of this writer, read from its records."""
        with self._lock:
            return FencedScan(
                header=self._header,
                owner=self._owner,
                commits=list(self._notes),
                next=self._frames,
                rows=self._rows,
                log_bytes=self._log_bytes,
                cursors=dict(self._own_cursors),
            )

    def _create(self) -> None:
        """Make the directories, and then take the lane's number."""
        files, records = self._files, self._records
        for directory in (records.birth.parent, records.commits, records.groups):
            make_directories(files, directory)
        if not files.is_remote:  # an owner may have made some of them, and died right after
            files.sync_directory(records.directory)
        content = birth_record(self._header, self._owner)
        try:
            files.create_record(records.birth, content)
        except FileExistsError as error:
            raise LaneTaken(
                f"lane number {records.birth.name} was taken by another writer: read the lanes "
                "again"
            ) from error
        self._log_bytes = len(content)
        self._is_open = True

    def _check_open(self) -> None:
        if self._is_fenced:
            raise self._fenced()
        if self._ended is not None:
            raise LaneEnded(f"lane {self.name!r} ended: {self._ended}; open a new lane")
        if not self._is_open:
            raise LaneEnded(f"lane {self.name!r} is closed: open a new lane")

    def _fenced(self) -> Fenced:
        self._is_fenced = True
        self._ended = "another owner took the store over"
        self._release()
        return Fenced(
            f"lane {self.name!r} was fenced after its {self._rows} rows, which are safe: another "
            "owner took the store over; open the store again"
        )

    @property
    def _recording_directory(self) -> Path:
        return self._records.directory

    def _commit(
        self, batches: list[RowBatch], cursors: Mapping[str, int], documents: list[Document]
    ) -> None:
        rows = sum(batch.rows for batch in batches)
        ranges = self._write_groups(batches)
        frame = CommitFrame(
            first_row=self._rows,
            rows=rows,
            time_s=self._files.time_s(),
            cursors=cursors,
            ranges=tuple(ranges),
            columns=TokenColumns.concatenate([b.columns for b in batches], self._spec.has_spans),
            documents=tuple(documents),
        )
        content = encode_record(KIND_COMMIT, self._header.epoch, self._frames, frame)
        try:
            self._files.create_record(self._records.commit(self._frames), content)
        except FileExistsError as error:
            raise self._fenced() from error
        note = CommitNote(
            first_row=self._rows, rows=rows, ranges=frame.ranges, cursors=frame.cursors
        )
        self._notes.append(note)
        self._frames += 1
        self._log_bytes += len(content)
        self._rows += rows
        self._cursors.update(cursors)
        self._own_cursors.update(cursors)
        for document in documents:
            self._documents.add(document)
        if len(self._notes) == 1:
            self._enter()

    def _enter(self) -> None:
        """Name the lane in the manifest once its first commit is durable, before the answer."""
        try:
            enter_lane(self._files, self._records.directory, self.name)
        except OSError as error:
            raise self._end(error) from error

    def _write_groups(self, batches: Sequence[RowBatch]) -> list[ByteRange]:
        """Write the rows of all sites, each to a new file."""
        number, self._tries = self._tries, self._tries + 1
        sites = range(len(self._spec.sites))
        try:
            ranges = for_each(self._files, partial(self._write_group, number, batches), sites)
            self._files.sync_directory(self._records.groups)
        except OSError as error:
            for site in sites:
                with contextlib.suppress(OSError):
                    self._files.remove(self._records.group(site, number))
            if isinstance(error, FileNotFoundError) and self._is_next_taken():
                raise self._fenced() from error  # the owner that fenced it removed these
            raise
        return ranges

    def _is_next_taken(self) -> bool:
        with contextlib.suppress(OSError):
            return self._files.exists(self._records.commit(self._frames))
        return False

    def _write_group(self, number: int, batches: Sequence[RowBatch], site: int) -> ByteRange:
        name = self._spec.sites[site].name
        parts = [as_bytes(batch.sites[name]) for batch in batches]
        write_new(self._files, self._records.group(site, number), parts)
        checksum = 0
        for part in parts:
            checksum = crc32c(part, checksum)
        length = sum(len(part) for part in parts)
        return ByteRange(site=site, shard=number, offset=0, length=length, checksum=checksum)

    def _release(self) -> None:
        self._is_open = False

    def publish(self) -> None:
        """Do nothing: the rows become zarr when they are moved to shards."""
        self._published = (self._rows, self._files.monotonic_s())

    def close(self) -> None:
        """End the lane by creating its fence. Later calls do nothing.

        Raises:
            Fenced: another owner ended the lane before; what was acknowledged is safe.
            LaneEnded: the fence could not be written; the rows are safe all the same.
        """
        with self._lock:
            if not self.is_open:
                return
            fence = Fence(owner=self._owner, reason="closed")
            content = encode_record(KIND_FENCE, self._header.epoch, self._frames, fence.to_dict())
            try:
                self._files.create_record(self._records.commit(self._frames), content)
            except FileExistsError as error:
                raise self._fenced() from error
            except OSError as error:
                raise LaneEnded(
                    f"lane {self.name!r} could not be closed ({error}): its {self._rows} rows are "
                    "safe and it is fenced when the store is next opened"
                ) from error
            finally:
                self._ended = self._ended or "it was closed"
                self._release()
            self._note_end(fence)

    def _note_end(self, fence: Fence) -> None:
        scan = self.scan
        end_scan(scan, fence)
        if scan.rows and scan.fence is not None:
            note_seal(self._files, self._records.directory, scan.fence)
