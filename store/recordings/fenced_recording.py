"""Recordings where no lock can be trusted: fenced lanes in, the same readers out."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from isogloss.errors import Conflict, CorruptData, InvalidInput, NotFound, StorageError
from isogloss.store.direct.ticket import DirectLaneTicket
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.fenced.joins import JoinRecords
from isogloss.store.fenced.lane_records import (
    FencedScan,
    LaneRecords,
    fence_lane,
    read_births,
    scan_records,
)
from isogloss.store.fenced.to_shards import settle_records
from isogloss.store.fenced.upkeep import FencedCare
from isogloss.store.fenced.writer import FencedLaneFiles, FencedLaneWriter, LaneTaken
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.lanes.resolve import LaneRange
from isogloss.store.lanes.state import LaneState
from isogloss.store.lanes.writer import LaneWriter, OwnerLaneWriter
from isogloss.store.ownership.epochs import EpochOwnership
from isogloss.store.recordings.recording import Recording
from isogloss.store.schema.document import DocumentTable

_TRIES = 8


class FencedRecording(Recording):
    """A recording on a network file system or an object store.

    Args:
        files: where it lies.
        directory: of the recording.
        etag: of its entry in the catalog.
        ownership: of the store; None to read only.
    """

    def __init__(
        self, *, files: FileSystem, directory: Path, etag: str, ownership: EpochOwnership | None
    ) -> None:
        super().__init__(
            files=files, directory=directory, etag=etag, is_owner=ownership is not None
        )
        self._ownership = ownership
        self._known: dict[str, FencedScan] = {}
        self._unsettled: dict[str, FencedScan] = {}
        self._settled: list[str] = []
        self._joins = JoinRecords(files, directory)
        self._care = self._fenced_care = FencedCare(
            files, directory, self._spec, self._seals, self._unsettled, self._joins, ownership
        )

    def _records(self, name: str) -> LaneRecords:
        return LaneRecords(self._files, self._directory, name)

    def _owned(self) -> None:
        super()._owned()
        if self._ownership is not None:
            self._ownership.check()

    @contextlib.contextmanager
    def _work(self, *, settle: bool = False) -> Generator[None]:
        """Let one thread of the owner care for the lanes at a time, and no older owner.

        Args:
            settle: whether the lanes that ended are moved into shards first.

        Raises:
            StoreOwned: this process does not own the store.
            Fenced: another owner took it over.
        """
        with super()._work():
            with self._lock, storage_errors(f"lanes of recording {self.id!r} cannot be cared for"):
                self._fenced_care.fence()
            try:
                if settle:
                    self.settle()
                yield
            except (StorageError, NotFound, FileNotFoundError):
                self._owned()  # what is missing a newer owner may have moved
                raise

    def lanes(self) -> list[LaneState]:
        """Return the lanes that were fully created, in the order their rows are numbered.

        The owner ends every lane that is not its own on the way.
        """
        with self._lock, storage_errors(f"lanes of recording {self.id!r} cannot be read"):
            for turn in range(_TRIES):
                births = read_births(self._files, self._directory, self._known)
                self._settled = [name for name, is_settled in births.items() if is_settled]
                self._unsettled.clear()
                for name, is_settled in births.items():
                    if not is_settled:
                        self._unsettled[name] = self._known[name.partition(".")[0]]
                try:
                    states = [self._fenced_state(name) for name in sorted(self._unsettled)]
                except (CorruptData, FileNotFoundError):
                    if turn + 1 == _TRIES or not self._was_settled():
                        raise
                    continue  # a lane was settled, and its commits removed, while we looked
                found = self._settled_states()
                if self._joins.joined.isdisjoint(self._unsettled):
                    return sorted([*found, *states], key=lambda state: state.name)
                # one was settled meanwhile, and joined
            raise Conflict(f"lanes of recording {self.id!r} keep being settled: try later")

    def _was_settled(self) -> bool:
        return any(self._files.exists(self._records(name).settled) for name in self._unsettled)

    def _settled_states(self) -> list[LaneState]:
        """Return the lanes that count by their shards; CorruptData when one is missing."""
        found = super().lanes()
        missing = {*self._joins.counting(self._settled)} - {state.name for state in found}
        if missing:
            self._check_there()
            raise CorruptData(
                f"lane {min(missing)!r} of recording {self.id!r} is not there, though its records "
                "say so: what it held was removed by something else; run verify"
            )
        return found

    def _lane_names(self) -> list[str]:
        """Return the names of the lanes that count by their shards: the records say which."""
        self._joins.read()
        names = self._joins.counting(self._settled)
        if not names and not self._unsettled:
            self._check_there()
        return names

    def _fenced_state(self, name: str) -> LaneState:
        writer = self._writer
        if writer is not None and writer.name == name and writer.is_open:
            rows, cursors = writer.rows, writer.own_cursors
        else:
            scan = self._fenced_scan(name)
            rows, cursors = scan.rows, dict(scan.cursors)
            self._unsettled[name] = scan
        return LaneState(name=name, rows=rows, cursors=cursors, seal=None)

    def _fenced_scan(self, name: str) -> FencedScan:
        """Return what a lane's records prove; the owner ends it, unless it writes there."""
        writer = self._writer
        if isinstance(writer, FencedLaneWriter) and writer.name == name and writer.is_open:
            return writer.scan
        number = name.partition(".")[0]
        scan = self._known[number]
        if scan.fence is None:
            records = self._records(name)
            if self._ownership is None or scan.owner > self._ownership.epoch:
                scan = scan_records(records, scan)  # a newer owner's: this process was fenced
            else:
                scan = fence_lane(records, scan, self._ownership.epoch)
            self._known[number] = scan
        return scan

    def open_lane(self, limits: LaneLimits | None = None) -> LaneWriter:
        """Start a new lane; producers go on where all lanes together end.

        Args:
            limits: what the recording may take.

        Raises:
            Fenced: another owner took the store over.
            StoreOwned: this process does not own the store.
            Conflict: the last lane opened here still takes batches.
            StorageError: it could not be created.
        """
        for _ in range(_TRIES):
            if self._ownership is not None:
                self._ownership.check()
            with contextlib.suppress(LaneTaken):
                return super().open_lane(limits)
        raise Conflict(f"other writers took {_TRIES} lane numbers of {self.id!r}: try later")

    def offer_direct_lane(
        self, producers: Sequence[str], limits: LaneLimits | None = None
    ) -> DirectLaneTicket:
        """Refuse: a direct lane needs a lock that holds on every machine."""
        raise InvalidInput(
            f"recording {self.id!r} has no direct lanes, since its storage has no locks: append "
            "through the owner"
        )

    def _new_lane_name(self) -> str:
        taken = [int(number) for number in self._known]
        number, _, epoch = super()._new_lane_name().partition(".")
        return f"{max([int(number), *(last + 1 for last in taken)]):08d}.{epoch}"

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
                records=self._records(header.lane),
                owner=0 if self._ownership is None else self._ownership.epoch,
                spec=self._spec,
                header=header,
                cursors=cursors,
                documents=documents,
                limits=limits,
                rows_before=rows_before,
            )

    def _lane_files(self, name: str, rows: int) -> LaneFiles:
        with self._lock:
            if name not in self._unsettled:
                return super()._lane_files(name, rows)
            scan = replace(self._fenced_scan(name))
            scan.commits = list(scan.commits)
            return FencedLaneFiles(self._records(name), self._spec, rows, scan)

    def _range_files(self, found: LaneRange) -> LaneFiles:
        with self._lock:
            if found.lane in self._unsettled:
                return self._lane_files(found.lane, found.rows)
            return super()._range_files(found)

    def settle(self) -> int:
        """Move the rows of the lanes that ended into zarr shards; part of :meth:`derive`.

        Returns:
            How many lanes were settled.

        Raises:
            StoreOwned: this process does not own the store.
            Fenced: another owner took it over.
            CorruptData: rows do not match the checksums of their commits; that lane stays.
        """
        self._owned()
        done = 0
        with self._lock:
            self.lanes()
            with storage_errors(f"lanes of recording {self.id!r} cannot be settled"):
                for name in sorted(self._unsettled):
                    scan = self._fenced_scan(name)
                    if scan.fence is not None:
                        self._seals[name] = settle_records(self._records(name), scan, self._spec)
                        done += 1
        return done

    def derive(self) -> None:
        """Settle the lanes that ended; write columns, documents and statistics they lack."""
        if self._ownership is not None:
            self.settle()
            super().derive()
