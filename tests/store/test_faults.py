"""Real files that refuse: no room, input and output errors, at every operation."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from isogloss.errors import LaneEnded, StorageError, StorageFull
from isogloss.store import Recording, Store
from isogloss.store.recordings import create_recording_files
from isogloss.store.testing import FaultyFiles, check_sample, sample_batch, sample_spec
from isogloss.store.testing.faults import SYNCS, WRITES

SPEC = sample_spec()
GROUPS = 3


def record(files: FaultyFiles, root: Path) -> dict[str, int]:
    """Record three groups; send a group again when it was refused for lack of room."""
    acknowledged: dict[str, int] = {}
    try:
        recording = Recording(files=files, directory=root, etag="", is_owner=True)
        lane = recording.open_lane()
        for group in range(GROUPS):
            batches = [sample_batch(SPEC, "p", 4 * group + i) for i in range(1, 5)]
            try:
                acknowledged.update(lane.append(batches).cursors)
            except StorageFull:
                assert lane.is_open
                acknowledged.update(lane.append(batches).cursors)
        lane.close()
    except LaneEnded:
        assert acknowledged.get("p", 0) % 4 == 0
    except StorageError:
        assert not acknowledged
    return acknowledged


@pytest.mark.parametrize(("error", "first"), [(errno.ENOSPC, 1), (errno.EIO, 2)])
def test_any_operation_may_fail_and_nothing_acknowledged_is_lost(
    tmp_path: Path, error: int, first: int
) -> None:
    calm = FaultyFiles(operations=WRITES | SYNCS | {"open", "replace"})
    create_recording_files(calm, tmp_path / "calm", SPEC, ["a"], 3 << 10)
    before = calm.count
    assert record(calm, tmp_path / "calm") == {"p": 4 * GROUPS}
    for number in range(first, calm.count - before + 1, 3):
        root = tmp_path / str(number)
        create_recording_files(FaultyFiles(), root, SPEC, ["a"], 3 << 10)
        faulty = FaultyFiles(fail_at=number, error=error, operations=calm.operations)
        acknowledged = record(faulty, root)
        again = Recording(files=FaultyFiles(), directory=root, etag="", is_owner=True)
        found = check_sample(again.reader(), acknowledged)
        with again.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", found.get("p", 0) + 1)])
        check_sample(again.reader(), {"p": found.get("p", 0) + 1})


def test_a_full_disk_refuses_a_group_and_the_lane_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    files = FaultyFiles(operations=frozenset({"write"}), error=errno.ENOSPC)
    create_recording_files(files, tmp_path / "r", SPEC, ["a"])
    recording = Recording(files=files, directory=tmp_path / "r", etag="", is_owner=True)
    lane = recording.open_lane()
    lane.append([sample_batch(SPEC, "p", 1)])
    files.fail_at = files.count + 1
    with pytest.raises(StorageFull, match="free space and send the batches again"):
        lane.append([sample_batch(SPEC, "p", 2)])
    lane.append([sample_batch(SPEC, "p", 2)])
    assert check_sample(recording.reader(), {"p": 2}) == {"p": 2}


def test_a_failed_sync_ends_the_lane_and_the_next_goes_on(tmp_path: Path) -> None:
    files = FaultyFiles(operations=frozenset({"sync_data"}))
    create_recording_files(files, tmp_path / "r", SPEC, ["a"])
    recording = Recording(files=files, directory=tmp_path / "r", etag="", is_owner=True)
    lane = recording.open_lane()
    lane.append([sample_batch(SPEC, "p", 1)])
    files.fail_at = files.count + 1
    with pytest.raises(LaneEnded, match="open a new lane"):
        lane.append([sample_batch(SPEC, "p", 2)])
    assert not lane.is_open
    with pytest.raises(LaneEnded, match="ended"):
        lane.append([sample_batch(SPEC, "p", 2)])
    with recording.open_lane() as following:
        following.append([sample_batch(SPEC, "p", 2), sample_batch(SPEC, "p", 3)])
    assert check_sample(recording.reader(), {"p": 3}) == {"p": 3}


FILL = """
import resource, sys
from isogloss.errors import StorageFull
from isogloss.store import LaneLimits, Store
from isogloss.store.testing import sample_batch, sample_spec
spec = sample_spec()
store = Store.open(sys.argv[1])
recording = store.create_recording(spec, ["a"], shard_bytes=1 << 20)
lane = recording.open_lane(LaneLimits(free_bytes=0))
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
done = 0
try:
    while done < 20_000:
        lane.append([sample_batch(spec, "p", done + i) for i in range(1, 9)])
        done += 8
except StorageFull:
    print(done)
"""


def fill(root: Path, *arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(root), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(done.stdout)


def test_a_real_limit_of_file_size_is_told_as_storage_full(tmp_path: Path) -> None:
    done = fill(tmp_path / "store", str(200_000))
    assert done > 0
    with Store.open(tmp_path / "store") as store:
        recording = store.recording("sample")
        assert check_sample(recording.reader(), {"p": done})["p"] >= done


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_real_full_disk_is_told_as_storage_full(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        done = fill(tmp_path / "store")
        assert done > 0
        with Store.attach(tmp_path / "store") as store:
            reader = store.recording("sample").reader()
            assert check_sample(reader, {"p": done})["p"] >= done
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_the_limit_of_file_size_of_this_process_is_untouched() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
