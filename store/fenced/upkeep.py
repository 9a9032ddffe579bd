"""Upkeep of fenced lanes: those not moved to shards are checked and swept by their records."""

from collections.abc import Mapping, Sequence, Set
from functools import partial
from pathlib import Path

from isogloss.errors import CorruptData, Fenced, StoreOwned
from isogloss.store.disk.filesystem import FileSystem, UncertainRecord, read_files, storage_errors
from isogloss.store.fenced.joins import JOINS, Join, JoinRecords
from isogloss.store.fenced.records import (
    BIRTHS,
    COMMITS,
    GROUPS,
    KIND_FENCE,
    LaneRecords,
    group_problem,
    parse_record,
)
from isogloss.store.fenced.scan import FencedScan
from isogloss.store.fenced.to_shards import sweep_records
from isogloss.store.lanes.lane_directory import enter_lane
from isogloss.store.lanes.log_frames import CommitFrame, Frame
from isogloss.store.lanes.seal import Seal
from isogloss.store.lanes.state import LaneState
from isogloss.store.ownership.epochs import EpochOwnership
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.upkeep.join import LaneJoiner
from isogloss.store.upkeep.upkeep import LaneUpkeep, OnLaneProgress, ProgressMeter
from isogloss.store.upkeep.verify import Problem


class FencedUpkeep(LaneUpkeep):
    """Works on the lanes of one fenced recording.

    Args:
        files: the file system that the recording is on.
        directory: the recording's directory.
        spec: the recording's specification.
        seals: the seals of lanes in shards, shared with the recording.
        in_commits: scans of the other lanes by name, shared with the recording.
        joins: records of joined lanes, shared with the recording.
        ownership: the store's ownership; None to verify only.
    """

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        spec: RecordingSpec,
        seals: dict[str, Seal],
        in_commits: Mapping[str, FencedScan],
        joins: JoinRecords,
        ownership: EpochOwnership | None,
    ) -> None:
        super().__init__(files, directory, spec, seals)
        self._in_commits = in_commits
        self._joins = joins
        self._ownership = ownership

    def _records(self, name: str) -> LaneRecords:
        return LaneRecords(self._files, self._directory, name)

    def fence(self, *, is_open: bool = False) -> None:
        """Keep older owners from finishing a join: a lane that they are joining never counts.

        Args:
            is_open: whether this owner is going to join lanes.

        Raises:
            Fenced: another owner took the store over.
            StoreOwned: this process does not own the store.
        """
        ownership = self._owned()
        self._joins.mark(ownership.epoch, is_open=is_open)
        if is_open:
            # a newer owner may have looked before the mark was there: then this one must stop
            ownership.check()

    def _owned(self) -> EpochOwnership:
        if self._ownership is None:
            raise StoreOwned(f"recording {self._spec.recording!r}: only its owner joins lanes")
        return self._ownership

    def _begin_joining(self) -> None:
        self.fence(is_open=True)

    def _joiner(self, run: Sequence[LaneState]) -> LaneJoiner:
        return LaneJoiner(self._files, self._directory / "lanes", self._spec, run, is_named=True)

    def _publish(self, joiner: LaneJoiner, names: Sequence[str], *, is_last: bool) -> None:
        """Make a joined lane count, by a record right after this owner's last one.

        Args:
            joiner: writes the joined lane.
            names: the lanes whose rows it holds.
            is_last: whether no other run is joined after it.

        Raises:
            Fenced: another owner took the store over; the joined lane was removed again.
            OSError: the record could not be created, or nobody knows whether it was; the next
                upkeep finds out.
        """
        joiner.publish()
        owner = self._owned().epoch
        join = Join(owner=owner, lane=joiner.name, joined=tuple(names), is_open=not is_last)
        try:
            self._joins.append(join)
        except UncertainRecord:
            raise
        except (Fenced, OSError):
            joiner.abandon()
            raise
        enter_lane(self._files, self._directory, joiner.name)

    def verify(
        self,
        states: Sequence[LaneState],
        on_progress: OnLaneProgress | None = None,
        damaged: Sequence[str] = (),
    ) -> list[Problem]:
        """Check every byte of the lanes against its checksum."""
        in_shards = [state for state in states if state.name not in self._in_commits]
        found = super().verify(in_shards, on_progress, damaged)
        waiting = [state for state in states if state.name in self._in_commits]
        meter = ProgressMeter(waiting, self._spec, on_progress)
        waiting_rows: list[tuple[str, int | None]] = [
            *((state.name, state.rows) for state in waiting),
            *((name, None) for name in damaged if name in self._in_commits),
        ]
        for name, rows in waiting_rows:
            messages = self._problems(self._in_commits[name], name, rows, partial(meter.add, name))
            found += [
                Problem(recording=self._spec.recording, lane=name, message=message)
                for message in messages
            ]
        return found

    def _problems(
        self, scan: FencedScan, name: str, rows: int | None, step: partial[None]
    ) -> list[str]:
        """Check the records of a lane one by one; ``rows`` is None where they alone know it."""
        records = self._records(name)
        found: list[str] = []
        if scan.fence is not None and scan.fence.damage:
            found.append(f"acknowledged rows were lost when it was fenced: {scan.fence.damage}")
        proven = 0
        numbers = sorted(int(n) for n in self._files.names(records.commits) if n.isdigit())
        contents = read_files(self._files, [records.commit(number) for number in numbers])
        for number, content in zip(numbers, contents, strict=True):
            if rows is not None and proven >= rows:
                break
            try:
                frame = parse_record(content, number, f"commit {number} of lane {name!r}")
                if frame.kind == KIND_FENCE:
                    break
                problems, count = self._commit_problems(records, number, frame, step)
            except CorruptData as error:
                found.append(str(error))
                continue
            found += problems
            proven += count
        if rows is not None and proven < rows and not found:
            found.append(f"its commits prove {proven} rows, wanted {rows}")
        return found

    def _commit_problems(
        self, records: LaneRecords, number: int, frame: Frame, step: partial[None]
    ) -> tuple[list[str], int]:
        """Compare the rows of a commit with their checksums; also return how many it has."""
        commit = CommitFrame.from_payload(frame.payload)
        found: list[str] = []
        for written in commit.ranges:
            problem = group_problem(records, written)
            found += [f"commit {number}: {problem}"] if problem else []
            step(written.length)
        return found, commit.rows

    def drop_litter(
        self, states: Sequence[LaneState], spared: Set[str] = frozenset(), more: Sequence[Path] = ()
    ) -> int:
        """Remove half-written files, rows without a commit, and commits moved to shards."""
        removed = super().drop_litter(states, {*spared, *self._in_commits}, more)
        with storage_errors(f"litter of recording {self._spec.recording!r} cannot be removed"):
            litter = [
                self._directory / kind / name
                for kind in (BIRTHS, JOINS)
                for name in self._files.names(self._directory / kind)
                if name.startswith(".")
            ]
            born = {name.partition(".")[0] for name in self._files.names(self._directory / BIRTHS)}
            for kind in (COMMITS, GROUPS):
                for name in {*self._files.names(self._directory / kind)} - spared:
                    if name in self._in_commits:
                        litter += self._lane_litter(kind, name)
                    elif kind == COMMITS and name.partition(".")[0] in born:
                        removed += sweep_records(self._records(name))
                    else:  # of a writer whose number another took, or moved to shards already
                        removed += 1
                        self._files.remove_tree(self._directory / kind / name)
            for path in litter:
                self._files.remove(path)
        return removed + len(litter)

    def _lane_litter(self, kind: str, name: str) -> list[Path]:
        """Return the files of an ended lane that no commit names; none while it may be written."""
        scan, records = self._in_commits[name], self._records(name)
        if scan.fence is None:
            return []
        if kind == COMMITS:
            return [records.commits / n for n in self._files.names(records.commits) if n[0] == "."]
        known = {records.group(r.site, r.shard).name for note in scan.commits for r in note.ranges}
        return [records.groups / n for n in self._files.names(records.groups) if n not in known]
