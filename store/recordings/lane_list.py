"""The lanes of a recording where locks can be trusted, and the commits in each."""

import secrets
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from isogloss.errors import InvalidInput, NotFound, StorageError
from isogloss.store.direct.register import DirectLook, DirectRegister
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.lanes.lane_directory import LOG_NAME, MANIFEST_NAME, lane_names
from isogloss.store.lanes.log_scan import LaneScan, is_durable, scan_log
from isogloss.store.lanes.recover import seal_dead_lane
from isogloss.store.lanes.resolve import LaneRange, joined_names
from isogloss.store.lanes.seal import Seal, read_seal
from isogloss.store.lanes.state import LaneState
from isogloss.store.lanes.writer import OwnerLaneWriter
from isogloss.store.recordings.manifest import (
    LaneManifest,
    Listing,
    MissingLane,
    missing_lanes,
)
from isogloss.store.schema.document import Document
from isogloss.store.schema.recording_spec import RecordingSpec


class LaneList:
    """The lanes of one recording; safe from several threads.

    Args:
        files: the file system that the recording is on.
        directory: the recording's directory.
        spec: the recording's specification.
        register: the tickets of its direct lanes.
        is_owner: whether this process owns the store, and so seals lanes whose writers died.
    """

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        spec: RecordingSpec,
        register: DirectRegister,
        *,
        is_owner: bool,
    ) -> None:
        self._files = files
        self._directory = directory
        self._spec = spec
        self._register = register
        self._is_owner = is_owner
        self.lock = threading.RLock()
        """Held while lanes are listed, begun, or made to count instead of others."""
        self.writer: OwnerLaneWriter | None = None
        """The lane that was opened here last; its rows are known without reading its log."""
        self.seals: dict[str, Seal] = {}
        """The seals read or written so far, by lane."""
        self._scans: dict[str, LaneScan] = {}
        self._joined: dict[str, frozenset[str]] = {}
        self.manifest = LaneManifest(files, directory)
        """Names the lanes that must be there."""
        self._listing = Listing()

    def states(self) -> list[LaneState]:
        """Return what is committed in each lane, in the order in which their rows are numbered.

        Where this process owns the store, it seals every lane whose writer died.

        Returns:
            The states of the lanes, without those that were joined into others.

        Raises:
            NotFound: the recording was deleted.
            CorruptData: the manifest names a lane that is not on the disk.
            StorageError: a directory or a log cannot be read.
        """
        states, missing = self.found()
        if missing:
            raise missing_lanes(self._id, missing)
        return states

    def found(self) -> tuple[list[LaneState], list[MissingLane]]:
        """Return what is committed in the lanes that are there, and which lanes are missing.

        Returns:
            The states, as :meth:`states` returns them, and the lanes that the manifest names and
            the disk lacks.

        Raises:
            NotFound: the recording was deleted.
            StorageError: a directory or a log cannot be read.
        """
        with self.lock, storage_errors(f"lanes of recording {self._id!r} cannot be read"):
            states = self._found_states()
            missing = self._find_missing(states)
            if self._is_owner and not self._listing.is_gone:
                self.manifest.enter(self._listing, states)
            lost = self.manifest.given_up(self._listing)
            return sorted([*states, *lost], key=lambda state: state.name), missing

    def _found_states(self) -> list[LaneState]:
        while True:
            # the manifest first: what it names by now was on the disk by now
            self._listing = self.manifest.read()
            states = self._try_states()
            if states is not None:
                return states

    def _try_states(self) -> list[LaneState] | None:
        """Look at all lanes; None where some were joined between two looks: then look again."""
        names = self._names()
        states = [self._state(name) for name in names]
        if set(names) <= {*self._names()}:
            return [state for state in states if state is not None]
        return None

    def _find_missing(self, states: Sequence[LaneState]) -> list[MissingLane]:
        """Compare the manifest with the lanes that were found."""
        if self._listing.is_gone:
            return [_missing_manifest(self._directory)]
        known = {state.name for state in states} | self._joined_away()
        found: list[MissingLane] = []
        for name in sorted(self._listing.entered - self._listing.lost - known):
            reason = self._why_missing(name)
            found += [self.manifest.missing(name, reason)] if reason else []
        return found

    def _joined_away(self) -> set[str]:
        """Return the lanes whose rows other lanes hold now."""
        return {old for joined in self._joined.values() for old in joined}

    def _why_missing(self, name: str) -> str:
        """Say what is amiss with a lane that has an entry and does not count; empty if nothing."""
        directory = self._directory / "lanes" / name
        if not self._files.exists(directory):
            return f"{directory} is not there"
        if self._register.look(name).is_direct:
            return ""  # of one that disagrees with its ticket nothing is read; verify says why
        return f"{directory / LOG_NAME} does not begin as a log does"

    def readable(self) -> tuple[list[LaneState], list[tuple[str, str]]]:
        """Return the lanes that can be read, and what is wrong with those that cannot.

        Returns:
            The states, as :meth:`states` returns them, and for each other lane its name and a
            sentence; the name is empty where it is not known which lane is damaged.

        Raises:
            NotFound: the recording was deleted.
        """
        with self.lock:
            try:
                states, missing = self.found()
                damaged = [(lane.name, lane.describe()) for lane in missing]
                return states, damaged + self.manifest.problems(states)
            except StorageError as error:
                self._check_there()
                found, damaged = self._readable_each()
                known = {message for _, message in damaged}
                named = {lane for lane, _ in damaged}
                if "" not in named:  # else it is not known which lanes there are
                    missing = self._find_missing(found)
                    damaged += [(m.name, m.describe()) for m in missing if m.name not in named]
                whole = [] if str(error) in known else [("", str(error))]
                return found, damaged or whole

    def _readable_each(self) -> tuple[list[LaneState], list[tuple[str, str]]]:
        """Look at each lane by itself."""
        return self._look_at_each(self._names, self._state)

    def _look_at_each(
        self, names: Callable[[], list[str]], look: Callable[[str], LaneState | None]
    ) -> tuple[list[LaneState], list[tuple[str, str]]]:
        found: list[LaneState] = []
        damaged: list[tuple[str, str]] = []
        try:
            lanes = names()
        except (StorageError, OSError) as error:
            return [], [("", str(error))]
        for name in lanes:
            try:
                state = look(name)
            except (StorageError, InvalidInput, OSError) as error:
                damaged.append((name, str(error)))
            else:
                found += [] if state is None else [state]
        return found, damaged

    @property
    def _id(self) -> str:
        return self._spec.recording

    def _names(self) -> list[str]:
        """Return the names of the lanes that were not joined into others."""
        lanes = self._directory / "lanes"
        names = lane_names(self._files, lanes)
        if not names:
            self._check_there()
        names = [name for name in names if name not in self._listing.lost]
        self._joined = {name: self._joined[name] for name in names if name in self._joined}
        for name in names:
            if name not in self._joined:
                found = joined_names(self._files, lanes / name)
                if found and self._register.look(name).is_direct:
                    found = frozenset()  # only the owner joins lanes
                if found is not None:
                    self._joined[name] = found
        joined = self._joined_away()
        return [name for name in names if name not in joined]

    def _check_there(self) -> None:
        if not self._files.exists(self._directory / "recording.json"):
            raise NotFound(f"recording {self._id!r} is gone: it was deleted")

    def _state(self, name: str) -> LaneState | None:
        """Return what is committed in a lane; None where nothing of it counts."""
        writer = self.writer
        if writer is not None and writer.name == name and writer.is_open:
            return LaneState(name=name, rows=writer.rows, cursors=writer.own_cursors, seal=None)
        look = self._register.look(name)
        if look.refusal:
            return None
        seal = self.seals.get(name)
        if seal is None and self._is_owner:
            seal, counts = self._seal_if_dead(name, look)
            if not counts:
                return None
        elif seal is None:
            seal = read_seal(self._files, self._directory / "lanes" / name)
        if seal is not None:
            self.seals[name] = seal
            return LaneState(
                name=name,
                rows=seal.rows,
                cursors=seal.cursors,
                seal=seal,
                is_direct=look.is_direct,
            )
        scan = look.scan if look.is_direct else self._scan(name)
        if scan is None:
            return None
        return LaneState(
            name=name,
            rows=scan.rows,
            cursors=dict(scan.cursors),
            seal=None,
            is_direct=look.is_direct,
        )

    def _seal_if_dead(self, name: str, look: DirectLook) -> tuple[Seal | None, bool]:
        """Seal a lane whose writer died or was fenced.

        Args:
            name: name of the lane, direct or not.
            look: state of the lane, as the register of direct lanes found it.

        Returns:
            The seal, None while the lane goes on; and whether the lane counts. A fenced direct lane
            that never began does not count, and its ticket is removed.
        """
        directory = self._directory / "lanes" / name
        seal = seal_dead_lane(self._files, directory, self._spec, is_fenced=look.is_fenced)
        if not look.is_direct:
            return seal, True
        if seal is None:
            if look.is_fenced:
                self._register.forget(name)
            return None, not look.is_fenced
        return seal, not self._register.accept(name, seal)

    def _scan(self, name: str) -> LaneScan | None:
        """Read the log of a lane that another process writes, up to its last durable commit.

        The newest commit is synced and its rows are read again past the page cache; it is left out
        while they do not match their checksums.
        """
        directory = self._directory / "lanes" / name
        try:
            log = self._files.open(directory / LOG_NAME)
        except FileNotFoundError:
            return None
        try:
            scan = scan_log(
                self._files,
                log,
                known=self._scans.get(name),
                is_whole=partial(is_durable, self._files, directory, log),
            )
        finally:
            self._files.close(log)
        if scan is not None:
            self._scans[name] = scan
        return scan

    def new_name(self) -> str:
        """Return a name for a new lane, which sorts behind all lanes and all tickets."""
        lanes = lane_names(self._files, self._directory / "lanes")
        names = [*lanes, *self._register.names(), *self._listing.entered, *self._listing.lost]
        numbers = [name.partition(".")[0] for name in names]
        last = max((int(number) for number in numbers if number.isdecimal()), default=0)
        return f"{last + 1:08d}.{secrets.randbits(64):016x}"

    def lane_files(self, name: str, rows: int) -> LaneFiles:
        """Return a reader of the first ``rows`` rows of a lane."""
        return LaneFiles(self._files, self._directory / "lanes" / name, self._spec, rows)

    def range_files(self, found: LaneRange) -> LaneFiles:
        """Return a reader of a range of rows within one lane."""
        return LaneFiles(
            self._files,
            self._directory / "lanes" / found.lane,
            self._spec,
            found.rows,
            first=found.first,
            documents=found.documents,
        )

    def documents(self, states: Sequence[LaneState]) -> list[Document]:
        """Return the documents that lanes with rows, and retired lanes, describe; in row order."""
        return [
            document
            for state in states
            if state.rows or state.is_retired
            for document in self.lane_files(state.name, state.rows).documents()
        ]


def _missing_manifest(directory: Path) -> MissingLane:
    return MissingLane(
        name="",
        reason=f"{directory / MANIFEST_NAME}, which names its lanes, is not there",
    )
