"""A recording says that its rows may have steps before the first such row, and not without one."""

import errno
import json
from pathlib import Path

import pytest

from isogloss.errors import CorruptData, NotFound, StorageFull, UnsupportedVersion
from isogloss.store import Recording, Store
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.recording_version import DESCRIPTION_NAME, allow_steps
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.testing import (
    FaultyFiles,
    PowerLoss,
    SimulatedDisk,
    check_sample,
    sample_batch,
    sample_spec,
    scenario,
)
from isogloss.store.testing.disk import Survival
from isogloss.store.testing.scenario import ROOT

SPEC = sample_spec()


def version(recording: Recording) -> int:
    return json.loads((recording.directory / DESCRIPTION_NAME).read_bytes())["schema_version"]


def test_rows_without_steps_leave_the_recording_as_it_was(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, [])
        path = recording.directory / DESCRIPTION_NAME
        before = path.read_bytes()
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
        recording.derive()
        assert path.read_bytes() == before
        (columns,) = recording.directory.glob("lanes/*/columns")
        assert not {"step", "step_ends"} & {found.name for found in columns.iterdir()}
        log = next(recording.directory.glob("lanes/*/commit.log")).read_bytes()
        assert b"step" not in log


def test_a_release_that_knows_no_steps_refuses_a_recording_with_one(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, [])
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
            assert version(recording) == 1
            lane.append([sample_batch(SPEC, "p", 2, step=3)])
            assert version(recording) == 2
        path = recording.directory / DESCRIPTION_NAME
        with pytest.raises(UnsupportedVersion, match="schema version 2"):
            signed_json.decode(path.read_bytes(), "recording.json")  # as that release reads it
        changed = path.stat().st_mtime_ns
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 3, step=4), sample_batch(SPEC, "p", 4)])
        assert path.stat().st_mtime_ns == changed
    with Store.open(tmp_path) as store:
        assert check_sample(store.recording("sample").reader(), {}) == {"p": 4}


def test_where_the_mark_cannot_be_written_no_row_is(tmp_path: Path) -> None:
    files = FaultyFiles(error=errno.ENOSPC, lasting=True, operations=frozenset({"create"}))
    (tmp_path / "recording").mkdir()
    directory = tmp_path / "recording" / "r"
    create_recording_files(files, directory, SPEC, [])
    recording = Recording(files=files, directory=directory, etag="", is_owner=True)
    with recording.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
        files.fail_at = files.count + 1
        with pytest.raises(StorageFull, match="send the batches again"):
            lane.append([sample_batch(SPEC, "p", 2, step=3)])
        assert (version(recording), lane.cursors) == (1, {"p": 1})
        files.fail_at = 0
        lane.append([sample_batch(SPEC, "p", 2, step=3)])
        assert (version(recording), lane.cursors) == (2, {"p": 2})
    assert check_sample(recording.reader(), {"p": 2}) == {"p": 2}


@pytest.mark.parametrize("survival", ["dropped", "kept", "mixed"])
def test_power_may_go_at_any_moment_around_the_first_row_with_a_step(survival: Survival) -> None:
    after, ended, versions = 0, False, set[int]()
    while not ended:
        after += 1
        disk = SimulatedDisk()
        create_recording_files(disk, ROOT, scenario.SPEC, [])
        lane = scenario.open_recording(disk).open_lane()
        done = dict(lane.append([sample_batch(SPEC, "p", 1)]).cursors)
        disk.stop_at = disk.operations + after
        try:
            for number in (2, 3):
                done.update(lane.append([sample_batch(SPEC, "p", number, step=number)]).cursors)
            ended = True
        except PowerLoss:
            pass
        left = disk.after_power_loss(survival, after)
        found = json.loads(left.read_whole(ROOT / DESCRIPTION_NAME))["schema_version"]
        reader = scenario.open_recording(left).reader()
        check_sample(reader, done)
        assert found == 2 or not reader.tokens().step.any()
        versions.add(found)
    assert versions == {1, 2}
    assert after > 8


def test_a_deleted_recording_takes_no_steps_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    create_recording_files(FileSystem(), tmp_path / "r", SPEC, [])
    path = tmp_path / "r" / DESCRIPTION_NAME
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"sample-model", b"simple-model"))
    with pytest.raises(CorruptData, match="checksum"):
        allow_steps(FileSystem(), tmp_path / "r")
    path.write_bytes(whole)
    allow_steps(FileSystem(), tmp_path / "r")
    wanted = {**signed_json.decode(whole, "it"), "schema_version": 2}
    assert signed_json.decode(path.read_bytes(), "it", (2,)) == wanted
    path.unlink()
    with pytest.raises(NotFound, match="deleted"):
        allow_steps(FileSystem(), tmp_path / "r")


class Swept(FileSystem):
    """Files of which half-written ones are removed as garbage, some times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def replace(self, source: Path, target: Path) -> None:
        if self.times:
            self.times -= 1
            source.unlink()
        super().replace(source, target)


@pytest.mark.parametrize("times", [1, 2])
def test_garbage_collection_beside_it_does_no_harm(tmp_path: Path, times: int) -> None:
    create_recording_files(FileSystem(), tmp_path / "r", SPEC, [])
    allow_steps(Swept(times), tmp_path / "r")
    assert json.loads((tmp_path / "r" / DESCRIPTION_NAME).read_bytes())["schema_version"] == 2
