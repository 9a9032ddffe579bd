"""Recordings where no lock can be trusted: fenced lanes in, the same readers out."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from isogloss.errors import Conflict, InvalidInput, NotFound, StorageError
from isogloss.store.direct.ticket import DirectLaneTicket
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.fenced.to_shards import move_to_shards
from isogloss.store.fenced.upkeep import FencedUpkeep
from isogloss.store.fenced.writer import FencedLaneWriter, LaneTaken
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.lanes.writer import LaneWriter, OwnerLaneWriter
from isogloss.store.ownership.epochs import EpochOwnership
from isogloss.store.reading.reader import Reopen
from isogloss.store.recordings.fenced_lane_list import TRIES, FencedLaneList
from isogloss.store.recordings.recording import Recording
from isogloss.store.schema.document import DocumentTable

_TRIES = 8


class FencedRecording(Recording):
    """A recording on a network file system or an object store.

    Args:
        files: the file system it is on.
        directory: the recording's directory.
        etag: etag of its entry in the catalog.
        ownership: the store's ownership; None to read only.
        reopen: opens a reader in a process that was sent one.
    """

    def __init__(
        self,
        *,
        files: FileSystem,
        directory: Path,
        etag: str,
        ownership: EpochOwnership | None,
        reopen: Reopen | None = None,
    ) -> None:
        self._ownership = ownership
        super().__init__(
            files=files,
            directory=directory,
            etag=etag,
            is_owner=ownership is not None,
            reopen=reopen,
        )
        lanes = self._fenced_lanes
        self._upkeep = self._fenced_upkeep = FencedUpkeep(
            files, directory, self._spec, lanes.seals, lanes.in_commits, lanes.joins, ownership
        )

    def _list_lanes(self) -> FencedLaneList:
        self._fenced_lanes = FencedLaneList(
            self._files, self._directory, self._spec, self._register, self._ownership
        )
        return self._fenced_lanes

    def _owned(self) -> None:
        super()._owned()
        if self._ownership is not None:
            self._ownership.check()

    @contextlib.contextmanager
    def _work_alone(self) -> Generator[None]:
        """Return a context manager that lets one thread of the current owner work on the lanes.

        Another process that took the store over is noticed before the work and, when the work finds
        a file missing or unreadable, after it.

        Raises:
            StoreOwned: this process does not own the store.
            Fenced: another owner took the store over.
            StorageError: the work could not read or write a file.
            NotFound: the work did not find something.
        """
        with super()._work_alone():
            with self._lock, storage_errors(f"lanes of recording {self.id!r} cannot be worked on"):
                self._fenced_upkeep.fence()
            try:
                yield
            except (StorageError, NotFound, FileNotFoundError):
                self._owned()  # a newer owner may have moved what is missing
                raise

    def _finish_ended_lanes(self) -> None:
        """Move the rows of the lanes that ended into shards."""
        self.move_to_shards()

    def open_lane(self, limits: LaneLimits | None = None) -> LaneWriter:
        """Start a new lane. Each producer continues after its last committed batch of any lane.

        Args:
            limits: how large the recording may grow, and how much of the disk must stay free.

        Returns:
            The writer of the lane.

        Raises:
            Fenced: another owner took the store over.
            StoreOwned: this process does not own the store.
            Conflict: the last lane opened here still takes batches, or other writers kept taking
                the next lane number.
            StorageError: the lane could not be created.
        """
        for _ in range(TRIES):
            if self._ownership is not None:
                self._ownership.check()
            with contextlib.suppress(LaneTaken):
                return super().open_lane(limits)
        raise Conflict(f"other writers took {TRIES} lane numbers of {self.id!r}: try later")

    def offer_direct_lane(
        self, producers: Sequence[str], limits: LaneLimits | None = None
    ) -> DirectLaneTicket:
        """Raise InvalidInput: a direct lane needs a lock that holds on every machine."""
        raise InvalidInput(
            f"recording {self.id!r} has no direct lanes, since its storage has no locks: append "
            "through the owner"
        )

    def _new_lane(
        self,
        cursors: Mapping[str, int],
        documents: DocumentTable,
        limits: LaneLimits,
        rows_before: int,
    ) -> OwnerLaneWriter:
        header = self._new_header()
        with storage_errors(f"no lane can be created for recording {self.id!r}"):
            return FencedLaneWriter(
                records=self._fenced_lanes.records(header.lane),
                owner=0 if self._ownership is None else self._ownership.epoch,
                spec=self._spec,
                header=header,
                cursors=cursors,
                documents=documents,
                limits=limits,
                rows_before=rows_before,
            )

    def move_to_shards(self) -> int:
        """Move the rows of the lanes that ended into zarr shards; part of :meth:`derive`.

        Returns:
            How many lanes were moved.

        Raises:
            StoreOwned: this process does not own the store.
            Fenced: another owner took it over.
            CorruptData: rows do not match the checksums of their commits; that lane stays.
        """
        self._owned()
        lanes = self._fenced_lanes
        done = 0
        with self._lock:
            self.lanes()
            with storage_errors(f"lanes of recording {self.id!r} cannot be moved to shards"):
                for name in sorted(lanes.in_commits):
                    scan = lanes.scan(name)
                    if scan.fence is not None:
                        lanes.seals[name] = move_to_shards(lanes.records(name), scan, self._spec)
                        done += 1
        return done

    def derive(self) -> None:
        """Move the lanes that ended to shards; write columns, documents and statistics they lack.

        Does nothing where this process does not own the store.
        """
        if self._ownership is not None:
            self.move_to_shards()
            super().derive()
