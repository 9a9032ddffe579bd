"""A lane that the manifest names is on the disk, or everybody is told."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData, NotFound, StorageError
from isogloss.store import Store
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.formats.zarr_arrays import GroupWriter
from isogloss.store.lanes.state import LaneState
from isogloss.store.ownership.location import Fencing
from isogloss.store.recordings.manifest import LaneManifest
from isogloss.store.recordings.recording import Recording
from isogloss.store.testing import SimulatedDisk, sample_batch, sample_spec
from isogloss.store.testing.disk import PowerLoss, Survival
from isogloss.store.testing.faults import FaultyFiles
from isogloss.store.testing.scenario import ROOT, Outcome, open_recording, run

SPEC = sample_spec()
FENCINGS: tuple[Fencing, ...] = ("lock", "create")


def make(store: Store) -> Recording:
    return store.create_recording(SPEC, ["a", "b"])


def record(recording: Recording, lanes: int, *, batches: int = 2) -> list[str]:
    """Write so many lanes, each closed; return their names."""
    names: list[str] = []
    for _ in range(lanes):
        with recording.open_lane() as lane:
            first = lane.cursors.get("p", 0) + 1
            for number in range(first, first + batches):
                lane.append([sample_batch(SPEC, "p", number)])
            names.append(lane.name)
    return names


def lose(recording: Recording, name: str) -> None:
    """Remove what a partial restore leaves out: all files of a lane but its manifest entry."""
    number = name.partition(".")[0]
    for part in ("lanes", "commits", "groups"):
        recording.files.remove_tree(recording.directory / part / name)
    for record in (number, f"{number}.settled"):
        recording.files.remove_tree(recording.directory / "births" / record)


def refused(recording: Recording, name: str) -> None:
    """Check that nobody reads or writes, and that each error names the lane and the remedy."""
    calls: list[Callable[[], object]] = [
        recording.lanes,
        recording.revision,
        recording.reader,
        lambda: recording.reader(recording.known_revision()),
        lambda: recording.cursor("p"),
        recording.open_lane,
        recording.known_documents,
        lambda: recording.statistics("layer.2"),
        recording.compact,
    ]
    for call in calls:
        with pytest.raises(CorruptData, match=f"lane '{name}' is missing.*give-up sample"):
            call()


@pytest.mark.parametrize("fencing", FENCINGS)
@pytest.mark.parametrize("which", [0, 2])
@pytest.mark.parametrize("is_moved", [False, True])
def test_each_lane_that_is_lost_is_named_with_its_rows_and_refused(
    tmp_path: Path, fencing: Fencing, which: int, is_moved: bool
) -> None:
    with Store.open(tmp_path, fencing=fencing) as store:
        recording = make(store)
        names = record(recording, 3)
        rows = {state.name: state.rows for state in recording.lanes()}
        if is_moved:
            recording.derive()
    with Store.open(tmp_path) as store:
        recording = store.recording("sample")
        lose(recording, names[which])
    with Store.open(tmp_path) as store, Store.attach(tmp_path) as attached:
        for found in (store.recording("sample"), attached.recording("sample")):
            (problem,) = found.verify()
            assert problem.lane == names[which]
            assert f"is missing, with {rows[names[which]]} rows" in problem.message
            (missing,) = found.missing_lanes()
            assert dict(missing.cursors) == {"p": 2 * which + 2}
        refused(store.recording("sample"), names[which])
        store.collect_garbage(0)
        assert len(store.recording("sample").verify()) == 1


@pytest.mark.parametrize("fencing", FENCINGS)
def test_producers_go_on_behind_what_was_acknowledged_when_a_lane_is_given_up(
    tmp_path: Path, fencing: Fencing
) -> None:
    with Store.open(tmp_path, fencing=fencing) as store:
        recording = make(store)
        names = record(recording, 3)
        backup = tmp_path / "backup"
        places = [recording.directory / part / names[2] for part in ("lanes", "commits", "groups")]
        there = [place for place in places if place.exists()]
        for place in there:
            shutil.copytree(place, backup / place.parent.name)
        lose(recording, names[2])
    with Store.open(tmp_path) as store:
        recording = store.recording("sample")
        (given_up,) = recording.give_up()
        assert (given_up.name, recording.verify(), recording.give_up()) == (names[2], [], [])
        assert recording.cursor("p") == 6
        assert [state.name for state in recording.lanes() if state.is_lost] == [names[2]]
        (more,) = record(recording, 1)
        assert more > names[2]
        assert recording.cursor("p") == 8
        recording.compact()
        recording.drop_litter(0)
        rows = recording.reader().rows
    for place in there:  # it comes back after all, and never counts
        shutil.copytree(backup / place.parent.name, place, dirs_exist_ok=True)
    with Store.open(tmp_path) as store, Store.attach(tmp_path) as attached:
        for found in (store.recording("sample"), attached.recording("sample")):
            assert (found.reader().rows, found.cursor("p")) == (rows, 8)
        if fencing == "lock":
            (problem,) = store.recording("sample").verify()
            assert problem.lane == names[2]
            assert "was given up" in problem.message


@pytest.mark.parametrize("fencing", FENCINGS)
def test_lanes_leave_the_manifest_when_they_are_joined_retired_and_deleted(
    tmp_path: Path, fencing: Fencing
) -> None:
    with Store.open(tmp_path, fencing=fencing) as store:
        recording = make(store)
        record(recording, 3)
        recording.compact()
        manifest = recording.directory / "manifest"
        (joined,) = [state.name for state in recording.lanes()]
        assert [path.name for path in manifest.iterdir()] == [joined]
        rows = recording.reader().rows
        record(recording, 1)
        recording.derive()
        assert recording.retire(50) == rows
        assert (recording.verify(), recording.missing_lanes()) == ([], [])
        if fencing == "lock":
            shutil.rmtree(recording.directory / "lanes" / joined)
            (missing,) = recording.missing_lanes()
            assert (missing.name, missing.rows) == (joined, 0)
            recording.give_up()
        store.delete_recording("sample", recording.etag)
        assert not manifest.exists()


def test_a_lane_without_its_first_frame_is_missed_and_its_files_stay(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        (name,) = record(recording, 1)
        lane = recording.directory / "lanes" / name
        (lane / "seal.json").unlink()
        log = lane / "commit.log"
        log.write_bytes(bytes(40) + log.read_bytes()[40:])
    with Store.open(tmp_path) as store:
        recording = store.recording("sample")
        refused(recording, name)
        assert {problem.lane for problem in recording.verify()} == {name}
        store.collect_garbage(0)
        assert (lane / "site-0").exists()


def test_a_lane_that_proves_fewer_rows_than_it_was_sealed_with_is_named(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        (name,) = record(recording, 1)
        rows = recording.reader().rows
        lane = recording.directory / "lanes" / name
        (lane / "seal.json").unlink()
        size = (lane / "commit.log").stat().st_size
        with (lane / "commit.log").open("r+b") as log:
            log.truncate(size - 8)
    with Store.open(tmp_path) as store:
        problems = store.recording("sample").verify()
        assert any(f"its seal once said {rows}" in problem.message for problem in problems)


def test_a_manifest_that_is_gone_is_missed_and_made_again_when_that_is_accepted(
    tmp_path: Path,
) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        names = record(recording, 2)
        shutil.rmtree(recording.directory / "manifest")
        (problem,) = recording.verify()
        assert "which names its lanes, is not there" in problem.message
        with pytest.raises(CorruptData, match="manifest"):
            recording.reader()
        recording.give_up()
        assert (recording.verify(), len(recording.lanes())) == ([], 2)
        lose(recording, names[0])
        assert [lane.name for lane in recording.missing_lanes()] == [names[0]]


@pytest.mark.parametrize("fencing", FENCINGS)
def test_lanes_of_an_earlier_release_are_read_and_named_by_the_next_owner(
    tmp_path: Path, fencing: Fencing
) -> None:
    with Store.open(tmp_path, fencing=fencing) as store:
        recording = make(store)
        names = record(recording, 2)
        shutil.rmtree(recording.directory / "manifest")
        path = recording.directory / "recording.json"
        document = dict(signed_json.parse(path.read_bytes(), "it"))
        del document["has_manifest"], document["crc32c"]
        path.write_bytes(signed_json.encode(document))
    with Store.attach(tmp_path) as store:
        assert len(store.recording("sample").lanes()) == 2
        assert not (recording.directory / "manifest").exists()
    with Store.open(tmp_path) as store:
        assert len(store.recording("sample").lanes()) == 2
        lose(store.recording("sample"), names[0])
        (missing,) = store.recording("sample").missing_lanes()
        assert missing.name == names[0]


def test_a_commit_that_is_missing_before_others_is_not_cut_off(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = make(store)
        lane = recording.open_lane()
        for number in range(1, 5):
            lane.append([sample_batch(SPEC, "p", number)])
        commit = recording.directory / "commits" / lane.name / f"{2:016d}"
    content = commit.read_bytes()
    commit.unlink()
    with Store.open(tmp_path) as store:
        with pytest.raises(CorruptData, match=r"commit 2 of lane .* is missing"):
            store.recording("sample").reader()
        assert any("commit 2" in problem.message for problem in store.recording("sample").verify())
        commit.write_bytes(content)
        assert store.recording("sample").cursor("p") == 4


@pytest.mark.parametrize("fencing", FENCINGS)
def test_a_lane_whose_entry_cannot_be_written_acknowledges_nothing(
    tmp_path: Path, fencing: Fencing
) -> None:
    class NoManifest(FaultyFiles):
        is_failing = False

        def sync_directory(self, path: Path) -> None:
            if self.is_failing and path.name == "manifest":
                raise OSError(errno.EIO, "no")
            super().sync_directory(path)

    files = NoManifest()
    with Store.open(tmp_path, fencing=fencing, files=files) as store:
        recording = make(store)
        files.is_failing = True
        with pytest.raises(StorageError):
            recording.open_lane().append([sample_batch(SPEC, "p", 1)])
        files.is_failing = False
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", lane.cursors.get("p", 0) + 1)])
        assert recording.verify() == []


def after_loss(disk: SimulatedDisk, survival: Survival, seed: int, outcome: Outcome) -> None:
    """Check that after a loss of power no lane is missed that was not lost, nor one not named."""
    left = disk.after_power_loss(survival, seed)
    if not outcome.was_created:
        return
    recording = open_recording(left)
    assert recording.missing_lanes() == []
    acknowledged = [state.name for state in recording.lanes() if state.rows]
    for name in acknowledged:
        assert left.exists(ROOT / "manifest" / name)


def test_no_loss_of_power_makes_the_manifest_contradict_the_disk() -> None:
    whole = SimulatedDisk()
    run(whole)
    survivals: tuple[Survival, ...] = ("dropped", "kept", "mixed")
    for stop_at in range(1, whole.operations + 1, 7):
        disk = SimulatedDisk(stop_at=stop_at)
        outcome = run(disk)
        for seed, survival in enumerate(survivals):
            after_loss(disk, survival, stop_at + seed, outcome)


def test_an_acknowledged_lane_is_named_before_its_acknowledgement_whatever_the_power_does() -> None:
    for stop_at in range(1, 400):
        disk = SimulatedDisk()
        run(disk, lives=0)
        disk.stop_at = disk.operations + stop_at
        recording = open_recording(disk)
        name = ""
        try:
            lane = recording.open_lane()
            lane.append([sample_batch(SPEC, "p", 1)])
            name = lane.name
            lane.close()
        except PowerLoss:
            pass
        left = disk.after_power_loss("dropped")
        if name:
            assert left.exists(ROOT / "manifest" / name)
            left.remove_tree(ROOT / "lanes" / name)
            (missing,) = open_recording(left).missing_lanes()
            assert missing.name == name
        if not disk._is_off:
            return


def test_a_recording_that_was_deleted_is_not_taken_for_one_that_lacks_lanes(
    tmp_path: Path,
) -> None:
    with Store.open(tmp_path) as store, Store.attach(tmp_path) as attached:
        recording = make(store)
        record(recording, 2)
        other = attached.recording("sample")
        store.delete_recording("sample", recording.etag)
        with pytest.raises(NotFound, match="deleted"):
            other.lanes()


def test_a_lane_costs_one_sync_more_and_an_append_none(tmp_path: Path) -> None:
    class Counting(FileSystem):
        def __init__(self) -> None:
            self.synced: list[Path] = []

        def sync_directory(self, path: Path) -> None:
            self.synced.append(path)
            super().sync_directory(path)

    files = Counting()
    with Store.open(tmp_path, files=files) as store:
        recording = make(store)
        files.synced.clear()
        with recording.open_lane() as lane:
            for number in range(1, 4):
                lane.append([sample_batch(SPEC, "p", number)])
        recording.lanes()
    assert [path.name for path in files.synced].count("manifest") == 1


def test_garbage_collection_leaves_what_this_process_is_writing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        (name,) = record(recording, 1)
        lane = recording.directory / "lanes" / name
        left = lane / ".statistics-0.00000000.partial"
        left.mkdir()
        group = GroupWriter(recording.files, lane / "statistics-1")
        group.write("mean", np.zeros(3))
        assert recording.drop_litter(0) == 1
        assert not left.exists()
        group.finish({"rows": 3})
        assert (lane / "statistics-1" / "zarr.json").exists()


def test_only_a_lane_that_holds_something_is_named_and_only_once(tmp_path: Path) -> None:
    class Counted(FileSystem):
        def __init__(self) -> None:
            super().__init__()
            self.synced: list[str] = []

        def sync_directory(self, path: Path) -> None:
            self.synced.append(path.name)
            super().sync_directory(path)

    files = Counted()
    with Store.open(tmp_path, files=files) as store:
        recording = make(store)
        with recording.open_lane() as lane:
            manifest = LaneManifest(files, recording.directory)
            empty = LaneState(name="00000009.0123456789abcdef", rows=0, cursors={}, seal=None)
            manifest.enter(manifest.read(), [empty])
            assert manifest.read().entered <= {lane.name}
            lane.append([sample_batch(SPEC, "p", 1)])
            assert manifest.read().entered == {lane.name}
            before = files.synced.count("manifest")
            manifest.enter(manifest.read(), recording.lanes())
            assert files.synced.count("manifest") == before


def test_a_seal_whose_copy_is_gone_is_copied_again_by_the_next_owner(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        (name,) = record(recording, 1)
        entry = recording.directory / "manifest" / name
    entry.write_bytes(b"")
    with Store.open(tmp_path) as store:
        recording = store.recording("sample")
        recording.lanes()
        seal = LaneManifest(recording.files, recording.directory).seal(name)
        assert seal is not None
        assert seal.rows == recording.revision().rows
