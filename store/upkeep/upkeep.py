"""Upkeep of sealed lanes: derive, retire, verify, join, compress, quantise, remove leftovers."""

import contextlib
from collections.abc import Callable, Sequence, Set
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from isogloss.errors import NotFound
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.formats.zarr_arrays import is_being_written
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.lanes.lane_directory import (
    LOG_NAME,
    MANIFEST_NAME,
    enter_lane,
    has_writer,
    lane_names,
    strike_lanes,
)
from isogloss.store.lanes.lane_statistics import keep_statistics
from isogloss.store.lanes.seal import Seal, note_seal
from isogloss.store.lanes.state import LaneState
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.quantised import QuantisationError, read_error
from isogloss.store.upkeep.derive import derive_columns
from isogloss.store.upkeep.join import Compaction, LaneJoiner, plan_runs
from isogloss.store.upkeep.retire import retire_lane, sweep_retired
from isogloss.store.upkeep.tiers import check_ranges, compress_site, quantise_site
from isogloss.store.upkeep.verify import LaneVerifier, Problem

OnLaneProgress = Callable[[str, int, int], None]
"""Called after each step with the lane's name, the bytes of rows done so far and the bytes in all.

If it raises, the work stops before the next step; lanes already done stay done.
"""


class ProgressMeter:
    """Counts the bytes of rows that upkeep has gone through, and reports them.

    Args:
        states: the lanes that will be gone through, each site once.
        spec: specification of the recording.
        on_progress: called at each step; None to call nothing.
    """

    def __init__(
        self, states: Sequence[LaneState], spec: RecordingSpec, on_progress: OnLaneProgress | None
    ) -> None:
        row_bytes = sum(site.row_bytes for site in spec.sites)
        self._total = sum(state.rows for state in states) * row_bytes
        self._done = 0
        self._on_progress = on_progress

    def add(self, lane: str, done: int) -> None:
        """Count ``done`` more bytes of a lane, and report."""
        self._done += done
        if self._on_progress is not None:
            self._on_progress(lane, self._done, self._total)


class LaneUpkeep:
    """Works on the lanes of one recording whose writers are gone; for the owner of the store.

    Methods that take ``on_progress`` call it after each step; if it raises, the work stops there.

    Args:
        files: the file system that the recording is on.
        directory: the recording's directory.
        spec: the recording's specification.
        seals: the seals known so far, shared with the recording and kept up to date.
    """

    def __init__(
        self, files: FileSystem, directory: Path, spec: RecordingSpec, seals: dict[str, Seal]
    ) -> None:
        self._files = files
        self._directory = directory
        self._spec = spec
        self._seals = seals

    def _lane(self, name: str) -> Path:
        return self._directory / "lanes" / name

    def _lane_files(self, state: LaneState) -> LaneFiles:
        return LaneFiles(self._files, self._lane(state.name), self._spec, state.rows)

    def derive(self, states: Sequence[LaneState]) -> None:
        """Write columns, documents and statistics of the sealed lanes that lack them."""
        for lane in states:
            if lane.seal is None or not lane.rows:
                continue
            with storage_errors(f"columns of lane {lane.name!r} cannot be written"):
                derive_columns(self._files, self._lane(lane.name), self._spec, lane.rows)
                for site in range(len(self._spec.sites)):
                    rows = self._lane_files(lane)
                    keep_statistics(self._files, rows, site)

    def retire(self, states: Sequence[LaneState], max_rows: int) -> int:
        """Remove the oldest sealed lanes until at most ``max_rows`` rows are left.

        Args:
            states: the lanes that count, in row order.
            max_rows: how many rows may stay.

        Returns:
            How many rows were removed.
        """
        removed = 0
        rows = sum(state.rows for state in states)
        with storage_errors(f"lanes of recording {self._spec.recording!r} cannot be retired"):
            for state in states:
                directory = self._lane(state.name)
                if state.is_retired:
                    sweep_retired(self._files, directory)
                elif state.seal is not None and state.rows and rows - removed > max_rows:
                    retired = retire_lane(self._files, directory, self._spec, state.seal)
                    self._seals[state.name] = retired
                    note_seal(self._files, self._directory, retired)
                    removed += state.rows
        return removed

    def verify(
        self,
        states: Sequence[LaneState],
        on_progress: OnLaneProgress | None = None,
        damaged: Sequence[str] = (),
    ) -> list[Problem]:
        """Check every byte of the lanes against its checksum.

        Args:
            states: the lanes to check.
            on_progress: called after each commit that was checked.
            damaged: names of lanes whose state cannot be read; they are checked as far as their
                logs go. Names of no lane are left out.

        Returns:
            The problems found.
        """
        meter = ProgressMeter(states, self._spec, on_progress)
        known: list[tuple[str, Seal | None, int | None]] = [
            *((state.name, state.seal, state.rows) for state in states),
            *((name, None, None) for name in damaged if self._has_log(name)),
        ]
        found: list[Problem] = []
        for name, seal, rows in known:
            verifier = LaneVerifier(
                self._files,
                self._lane(name),
                self._spec,
                seal,
                rows,
                on_bytes=partial(meter.add, name),
            )
            found += [
                Problem(recording=self._spec.recording, lane=name, message=message)
                for message in verifier.problems()
            ]
        return found

    def _has_log(self, lane: str) -> bool:
        return bool(lane) and self._files.exists(self._lane(lane) / LOG_NAME)

    def drop_litter(
        self, states: Sequence[LaneState], spared: Set[str] = frozenset(), more: Sequence[Path] = ()
    ) -> int:
        """Remove half-written files, and lanes that never began.

        Args:
            states: the lanes of the recording, without those that were joined into others.
            spared: names of lanes that stay although they are not in ``states``.
            more: further paths to remove.

        Returns:
            How many files and directories were removed.
        """
        with storage_errors(f"litter of recording {self._spec.recording!r} cannot be removed"):
            known = {state.name for state in states}
            litter = [
                self._directory / n for n in self._files.names(self._directory) if n[0] == "."
            ]
            lanes = self._directory / "lanes"
            litter += [lanes / n for n in self._files.names(lanes) if n[0] == "."]
            for name in lane_names(self._files, lanes):
                lane = self._lane(name)
                if name not in known and name not in spared:
                    litter += [] if has_writer(self._files, lane) else [lane]
                elif name in self._seals:
                    litter += [lane / n for n in self._files.names(lane) if n[0] == "."]
            litter += more
            manifest = self._directory / MANIFEST_NAME
            litter += [manifest / n for n in self._files.names(manifest) if n[0] == "."]
            litter = [path for path in litter if not is_being_written(path)]
            self._sync_renames()
            # the entries first: no crash then leaves one whose lane is not there
            leaving = [path.name for path in litter if path.parent == lanes]
            strike_lanes(self._files, self._directory, leaving)
            for path in litter:
                if self._files.is_directory(path):
                    self._files.remove_tree(path)
                else:
                    with contextlib.suppress(FileNotFoundError):  # whoever wrote it ended it
                        self._files.remove(path)
            return len(litter)

    def compact(
        self,
        states: Sequence[LaneState],
        max_rows: int,
        lock: AbstractContextManager[bool],
        on_progress: OnLaneProgress | None = None,
    ) -> Compaction:
        """Join neighbouring sealed lanes.

        Args:
            states: the lanes that count, in row order.
            max_rows: up to how many rows lanes are joined.
            lock: held while a joined lane is made to count instead of the others.
            on_progress: called after each commit that was copied.

        Returns:
            What was joined.
        """
        runs = plan_runs(states, max_rows, self._is_joinable)
        joined = [state for run in runs for state in run]
        meter = ProgressMeter(joined, self._spec, on_progress)
        with storage_errors(f"lanes of recording {self._spec.recording!r} cannot be joined"):
            self._sweep_joined(states)
            if runs:
                with lock:
                    self._begin_joining()
            for number, run in enumerate(runs, 1):
                joiner = self._joiner(run)
                seal = joiner.write(meter.add)
                names = [state.name for state in run]
                with lock:
                    self._publish(joiner, names, is_last=number == len(runs))
                    self._seals[joiner.name] = seal
                self._remove(names)
        rows = sum(state.rows for state in joined)
        return Compaction(lanes=len(joined), into=len(runs), rows=rows)

    def _begin_joining(self) -> None:
        """Do nothing: while this process holds the store's lock, no other joins lanes."""

    def _joiner(self, run: Sequence[LaneState]) -> LaneJoiner:
        return LaneJoiner(self._files, self._directory / "lanes", self._spec, run)

    def _publish(self, joiner: LaneJoiner, names: Sequence[str], *, is_last: bool) -> None:
        """Make a joined lane count instead of others; ``is_last`` when no other run follows."""
        del names, is_last  # its seal names them
        joiner.publish()
        enter_lane(self._files, self._directory, joiner.name)

    def _is_joinable(self, state: LaneState) -> bool:
        if state.seal is None or state.is_retired:
            return False
        lane = self._lane_files(state)
        if any(lane.is_quantised(site) for site in range(len(self._spec.sites))):
            return False  # the checksums of its log are of rows that are gone
        return self._files.exists(lane.directory / LOG_NAME)

    def _sweep_joined(self, states: Sequence[LaneState]) -> None:
        """Remove lanes whose rows are in a joined lane, which a crash left there."""
        joined = [state.seal for state in states if state.seal and not state.is_direct]
        known = {part.lane for seal in joined for part in seal.parts}
        names = {*lane_names(self._files, self._directory / "lanes")}
        names |= {*self._files.names(self._directory / MANIFEST_NAME)}
        self._sync_renames()
        self._remove(sorted(names & known))

    def _sync_renames(self) -> None:
        """Make renames durable that a killed process may not have synced.

        A renamed lane is seen at once. The files that it replaced may be removed only when a loss
        of power can no longer undo the rename.
        """
        self._files.sync_directory(self._directory / "lanes")

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            self._files.remove_tree(self._lane(name))
            self._seals.pop(name, None)
        strike_lanes(self._files, self._directory, names)

    def compress(
        self, states: Sequence[LaneState], on_progress: OnLaneProgress | None = None
    ) -> int:
        """Compress the rows of the sealed lanes; return how many sites of lanes were."""
        done = 0
        sealed = [state for state in states if state.seal is not None and state.rows]
        meter = ProgressMeter(sealed, self._spec, on_progress)
        for state in sealed:
            directory = self._lane(state.name)
            lane = self._lane_files(state)
            with storage_errors(f"lane {state.name!r} cannot be compressed"):
                for site in range(len(self._spec.sites)):
                    if not lane.is_compressed(site) and not lane.is_quantised(site):
                        check_ranges(self._files, directory, state.rows, site)
                    done += compress_site(lane, self._files, directory, site)
                    meter.add(state.name, state.rows * self._spec.sites[site].row_bytes)
        return done

    def quantise(
        self,
        states: Sequence[LaneState],
        sites: Sequence[int],
        on_progress: OnLaneProgress | None = None,
    ) -> None:
        """Round sites of the sealed lanes to 8 bits, for good."""
        sealed = [state for state in states if state.seal is not None and state.rows]
        meter = ProgressMeter(sealed, self._spec, on_progress)
        for state in sealed:
            lane = self._lane_files(state)
            with storage_errors(f"lane {state.name!r} cannot be quantised"):
                for site in sites:
                    if not lane.is_quantised(site):
                        if not lane.is_compressed(site):
                            check_ranges(self._files, lane.directory, state.rows, site)
                        keep_statistics(self._files, lane, site)
                    quantise_site(lane, self._files, site)
                    meter.add(state.name, state.rows * self._spec.sites[site].row_bytes)

    def quantisation(self, states: Sequence[LaneState]) -> dict[str, QuantisationError]:
        """Return the error of the sites of which some lane was quantised."""
        found: dict[str, QuantisationError] = {}
        for state in states:
            for index, site in enumerate(self._spec.sites):
                with contextlib.suppress(NotFound):
                    error = read_error(self._files, self._lane(state.name), index)
                    found[site.name] = found.get(site.name, QuantisationError.none()).merge(error)
        return found
