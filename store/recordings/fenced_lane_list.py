"""The lanes of a recording where no lock can be trusted, and the commits in each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from isogloss.errors import Conflict, CorruptData
from isogloss.store.direct.register import DirectRegister
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.fenced.fence import fence_lane
from isogloss.store.fenced.files import FencedLaneFiles
from isogloss.store.fenced.joins import JoinRecords
from isogloss.store.fenced.records import LaneRecords
from isogloss.store.fenced.scan import FencedScan, read_births, scan_records
from isogloss.store.fenced.writer import FencedLaneWriter
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.lanes.resolve import LaneRange
from isogloss.store.lanes.seal import note_seal
from isogloss.store.lanes.state import LaneState
from isogloss.store.ownership.epochs import EpochOwnership
from isogloss.store.recordings.lane_list import LaneList
from isogloss.store.recordings.manifest import MissingLane
from isogloss.store.schema.recording_spec import RecordingSpec

TRIES = 8
"""How often a look at the lanes, or a try for a lane number, is begun again."""


class FencedLaneList(LaneList):
    """The lanes of one fenced recording; safe from several threads.

    A lane's rows are in the files of its commits first, and in shards once they were moved there.

    Args:
        files: the file system that the recording is on.
        directory: the recording's directory.
        spec: the recording's specification.
        register: the tickets of direct lanes; always empty here.
        ownership: the store's ownership; None to read only.
    """

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        spec: RecordingSpec,
        register: DirectRegister,
        ownership: EpochOwnership | None,
    ) -> None:
        super().__init__(files, directory, spec, register, is_owner=ownership is not None)
        self._ownership = ownership
        self.joins = JoinRecords(files, directory)
        """Which lanes were joined."""
        self.in_commits: dict[str, FencedScan] = {}
        """What is known of the lanes whose rows are in the files of their commits, by name."""
        self._in_shards: list[str] = []
        self._born: set[str] = set()
        self._emptied: set[str] = set()
        self._known: dict[str, FencedScan] = {}

    def records(self, name: str) -> LaneRecords:
        """Return the records of a lane."""
        return LaneRecords(self._files, self._directory, name)

    def _found_states(self) -> list[LaneState]:
        """Return the lanes that are there; the owner fences those of an older owner first.

        Raises:
            Conflict: other processes kept moving lanes to shards while this one looked.
            CorruptData: a record is damaged or missing.
        """
        for turn in range(TRIES):
            self._listing = self.manifest.read()  # first: what it names was there by then
            self._emptied.clear()
            births = read_births(self._files, self._directory, self._known)
            self._born = {*births}
            counting = {name: moved for name, moved in births.items() if not self._is_lost(name)}
            self._in_shards = [name for name, is_moved in counting.items() if is_moved]
            self.in_commits.clear()
            for name, is_moved in counting.items():
                if not is_moved:
                    self.in_commits[name] = self._known[name.partition(".")[0]]
            try:
                states = [self._commit_state(name) for name in sorted(self.in_commits)]
            except (CorruptData, FileNotFoundError):
                if turn + 1 == TRIES or not self._was_moved():
                    raise
                continue  # a lane was moved to shards, and its commits removed, meanwhile
            found = self._shard_states()
            if self.joins.joined.isdisjoint(self.in_commits):
                return [*found, *(state for state in states if state is not None)]
            # one of them was moved to shards and joined meanwhile: look again
        raise Conflict(f"lanes of recording {self._id!r} keep being moved: try later")

    def _is_lost(self, name: str) -> bool:
        return name in self._listing.lost

    def _joined_away(self) -> set[str]:
        return {*self.joins.joined}

    def _find_missing(self, states: Sequence[LaneState]) -> list[MissingLane]:
        found = {lane.name: lane for lane in super()._find_missing(states)}
        in_shards = {*self._counting_in_shards()} - {state.name for state in states}
        for name in in_shards | self._emptied:
            found.setdefault(name, self.manifest.missing(name, self._why_missing(name)))
        return [found[name] for name in sorted(found)]

    def _why_missing(self, name: str) -> str:
        """Say which records or files of a lane are not there."""
        if name in self._emptied:
            return f"{self.records(name).commits} holds none of its commits"
        if name in self._counting_in_shards():
            return f"{self._directory / 'lanes' / name} is not there, though its records say so"
        if name in self._born:
            return ""  # damage, which is told of by itself
        return f"{self.records(name).birth} is not there"

    def _counting_in_shards(self) -> list[str]:
        """Return the lanes that count by their shards, as the records say that were read last."""
        return [name for name in self.joins.counting(self._in_shards) if not self._is_lost(name)]

    def _readable_each(self) -> tuple[list[LaneState], list[tuple[str, str]]]:
        found, damaged = super()._readable_each()
        more, others = self._look_at_each(lambda: sorted(self.in_commits), self._commit_state)
        return sorted([*found, *more], key=lambda state: state.name), damaged + others

    def _was_moved(self) -> bool:
        return any(self._files.exists(self.records(name).moved) for name in self.in_commits)

    def _shard_states(self) -> list[LaneState]:
        """Return the lanes that count by their shards, without those whose shards are missing."""
        while (found := self._try_states()) is None:
            pass
        return found

    def _names(self) -> list[str]:
        """Return the names of the lanes that count by their shards, as the records say."""
        self.joins.read()
        names = self._counting_in_shards()
        if not names and not self.in_commits:
            self._check_there()
        return names

    def _commit_state(self, name: str) -> LaneState | None:
        """Return what is committed in a lane; None where its commits are missing."""
        writer = self.writer
        if writer is not None and writer.name == name and writer.is_open:
            rows, cursors = writer.rows, writer.own_cursors
        elif self._is_emptied(name):
            if self._files.exists(self.records(name).moved):
                raise CorruptData(f"lane {name!r} was moved to shards meanwhile")
            self._emptied.add(name)
            return None
        else:
            scan = self.scan(name)
            rows, cursors = scan.rows, dict(scan.cursors)
            self.in_commits[name] = scan
        return LaneState(name=name, rows=rows, cursors=cursors, seal=None)

    def _is_emptied(self, name: str) -> bool:
        """Whether a lane that had commits has none; such a lane is not fenced, but missing."""
        scan = self._known[name.partition(".")[0]]
        if name not in self._listing.entered or scan.next > 1 or scan.fence is not None:
            return False
        return not any(number.isdigit() for number in self._files.names(self.records(name).commits))

    def scan(self, name: str) -> FencedScan:
        """Return what the records of a lane prove.

        The owner fences the lane first, unless it writes the lane itself, or a newer owner does.
        """
        writer = self.writer
        if isinstance(writer, FencedLaneWriter) and writer.name == name and writer.is_open:
            return writer.scan
        number = name.partition(".")[0]
        scan = self._known[number]
        if scan.fence is None:
            records = self.records(name)
            if self._ownership is None or scan.owner > self._ownership.epoch:
                scan = scan_records(records, scan)
            else:
                scan = fence_lane(records, scan, self._ownership.epoch)
                if scan.fence is not None and scan.rows:
                    note_seal(self._files, self._directory, scan.fence)
            self._known[number] = scan
        return scan

    def new_name(self) -> str:
        """Return a name for a new lane, which sorts behind all lanes that were born."""
        taken = [int(number) for number in self._known]
        number, _, epoch = super().new_name().partition(".")
        return f"{max([int(number), *(last + 1 for last in taken)]):08d}.{epoch}"

    def lane_files(self, name: str, rows: int) -> LaneFiles:
        """Return a reader of the first ``rows`` rows of a lane."""
        with self.lock:
            if name not in self.in_commits:
                return super().lane_files(name, rows)
            scan = replace(self.scan(name))
            scan.commits = list(scan.commits)
            return FencedLaneFiles(self.records(name), self._spec, rows, scan)

    def range_files(self, found: LaneRange) -> LaneFiles:
        """Return a reader of a range of rows within one lane."""
        with self.lock:
            if found.lane in self.in_commits:
                return self.lane_files(found.lane, found.rows)
            return super().range_files(found)
