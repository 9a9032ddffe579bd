"""Real files that refuse: no room, input and output errors, at every operation."""

import errno
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import IsoglossError, LaneEnded, NotFound, StorageError, StorageFull
from isogloss.store import Recording, Store
from isogloss.store.recordings.recording_files import create_recording_files
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
                if files.lasting:
                    return acknowledged
                acknowledged.update(lane.append(batches).cursors)
        lane.close()
    except LaneEnded:
        assert acknowledged.get("p", 0) % 4 == 0
    except StorageError:
        assert not acknowledged
    return acknowledged


EVERY = WRITES | SYNCS | {"open", "replace"}


def fail_recording_at(root: Path, number: int, error: int, *, lasting: bool = False) -> int:
    """Let one operation of a recorded life fail; return how many there were."""
    create_recording_files(FaultyFiles(), root, SPEC, ["a"], 3 << 10)
    faulty = FaultyFiles(fail_at=number, error=error, operations=EVERY, lasting=lasting)
    acknowledged = record(faulty, root)
    again = Recording(files=FaultyFiles(), directory=root, etag="", is_owner=True)
    found = check_sample(again.reader(), acknowledged)
    with again.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", found.get("p", 0) + 1)])
    check_sample(again.reader(), {"p": found.get("p", 0) + 1})
    assert again.verify() == []
    return faulty.count


@pytest.mark.parametrize(("error", "first"), [(errno.ENOSPC, 1), (errno.EIO, 2)])
def test_any_operation_may_fail_and_nothing_acknowledged_is_lost(
    tmp_path: Path, error: int, first: int
) -> None:
    calm = fail_recording_at(tmp_path / "calm", 0, error)
    assert calm > 40
    for number in range(first, calm + 1, 7):
        fail_recording_at(tmp_path / str(number), number, error)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_every_operation_fails_in_turn_once_and_for_good(
    tmp_path: Path, error: int, lasting: bool
) -> None:
    calm = fail_recording_at(tmp_path / "calm", 0, error)
    for number in range(1, calm + 1):
        fail_recording_at(tmp_path / str(number), number, error, lasting=lasting)


def do_upkeep(files: FaultyFiles, root: Path) -> None:
    """What happens to lanes after sealing: columns, statistics, compression, joining."""
    recording = Recording(files=files, directory=root, etag="", is_owner=True)
    recording.derive()
    recording.compact()
    recording.compress()


def sealed(root: Path) -> dict[str, int]:
    create_recording_files(FaultyFiles(), root, SPEC, ["a"], 12 << 10)
    return record(FaultyFiles(), root) | record_more(root)


def record_more(root: Path) -> dict[str, int]:
    recording = Recording(files=FaultyFiles(), directory=root, etag="", is_owner=True)
    with recording.open_lane() as lane:
        following = [sample_batch(SPEC, "p", 4 * GROUPS + ahead) for ahead in (1, 2)]
        return dict(lane.append(following).cursors)


def fail_upkeep_at(root: Path, number: int, error: int) -> int:
    """Let one operation after sealing fail; return how many there were."""
    acknowledged = sealed(root)
    faulty = FaultyFiles(fail_at=number, error=error, operations=EVERY | {"read_into"})
    try:
        do_upkeep(faulty, root)
    except StorageError:
        assert number
    calm = FaultyFiles()
    recording = Recording(files=calm, directory=root, etag="", is_owner=True)
    assert check_sample(recording.reader(), acknowledged) == acknowledged
    do_upkeep(calm, root)
    assert check_sample(recording.reader(), acknowledged) == acknowledged
    assert recording.verify() == []
    return faulty.count


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_upkeep_that_fails_leaves_the_rows_and_can_be_repeated(tmp_path: Path, error: int) -> None:
    count = fail_upkeep_at(tmp_path / "calm", 0, error)
    for number in range(1 + error % 7, count + 1, 97):
        fail_upkeep_at(tmp_path / str(number), number, error)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_every_operation_of_upkeep_fails_in_turn(tmp_path: Path, error: int) -> None:
    count = fail_upkeep_at(tmp_path / "calm", 0, error)
    for number in range(1, count + 1):
        fail_upkeep_at(tmp_path / str(number), number, error)


def test_an_error_of_the_disk_while_reading_is_told_and_passes(tmp_path: Path) -> None:
    acknowledged = sealed(tmp_path / "r")
    files = FaultyFiles(operations=frozenset({"read_into"}))
    recording = Recording(files=files, directory=tmp_path / "r", etag="", is_owner=False)
    reader = recording.reader()
    files.fail_at = files.count + 1
    with pytest.raises(StorageError, match=r"'layer\.2' cannot be read"):
        reader.read("layer.2", 0, reader.rows)
    assert check_sample(reader, acknowledged) == acknowledged


class BackwardClock(FaultyFiles):
    """A wall clock that goes back an hour at every look."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 2e9

    def time_s(self) -> float:
        self.now_s -= 3600
        return self.now_s


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path: Path) -> None:
    files = BackwardClock()
    create_recording_files(files, tmp_path / "r", SPEC, ["a"], 3 << 10)
    recording = Recording(files=files, directory=tmp_path / "r", etag="", is_owner=True)
    for life in range(3):
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 3 * life + ahead) for ahead in (1, 2)])
            lane.append([sample_batch(SPEC, "p", 3 * life + 3)])
    recording.derive()
    recording.compact()
    assert check_sample(recording.reader(), {"p": 9}) == {"p": 9}
    assert recording.verify() == []


def test_a_directory_deleted_under_a_reader_is_told_and_never_read_wrong(tmp_path: Path) -> None:
    sealed(tmp_path / "r")
    recording = Recording(files=FaultyFiles(), directory=tmp_path / "r", etag="", is_owner=False)
    warm, cold, mapped = (recording.reader() for _ in range(3))
    values = warm.read("layer.2", 0, warm.rows)
    steps = mapped.shuffled(["layer.2"], seed=0, epoch=0, batch_rows=16)
    first = next(steps)
    shutil.rmtree(tmp_path / "r")
    assert warm.read("layer.2", 0, warm.rows).tobytes() == values.tobytes()
    for batch in [first, *steps]:
        assert batch.sites["layer.2"].tobytes() == values[batch.rows].tobytes()
    with pytest.raises(IsoglossError, match=r"gone|deleted|missing"):
        cold.read("layer.2", 0, 1)
    with pytest.raises(IsoglossError, match=r"gone|deleted|missing"):
        cold.tokens()
    with pytest.raises(NotFound, match="is gone"):
        recording.reader()


def flip_bits(root: Path, flips: int, seed: int) -> int:
    """Flip single bits anywhere; return how many were told of.

    A flip that is told of by nobody must have changed no number that can be read.
    """
    acknowledged = sealed(root)
    recording = Recording(files=FaultyFiles(), directory=root, etag="", is_owner=True)
    recording.derive()
    recording.compress() if seed % 2 else None
    reader = recording.reader()
    wanted = numbers(recording)
    chance = random.Random(seed)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    told = 0
    for _ in range(flips):
        path = chance.choice(files)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        at = chance.randrange(len(whole))
        damaged[at] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            fresh = Recording(files=FaultyFiles(), directory=root, etag="", is_owner=False)
            if fresh.verify():
                told += 1
            else:
                assert numbers(fresh) == wanted, f"byte {at} of {path} changed in silence"
        except IsoglossError:
            told += 1
        path.write_bytes(whole)
    assert check_sample(reader, acknowledged) == acknowledged
    return told


def numbers(recording: Recording) -> list[bytes]:
    """Return everything a user can read of a recording."""
    reader = recording.reader()
    columns = reader.tokens()
    assert columns.span is not None
    found = [reader.read(site.name, 0, reader.rows).tobytes() for site in reader.spec.sites]
    arrays = (columns.token_id, columns.document, columns.position, columns.span)
    found += [np.ascontiguousarray(array).tobytes() for array in arrays]
    found += [repr(sorted(reader.documents().items())).encode()]
    return [*found, "".join(recording.vocabulary()).encode()]


@pytest.mark.parametrize("seed", [0, 1])
def test_bits_that_flip_anywhere_are_told_of_or_change_nothing(tmp_path: Path, seed: int) -> None:
    assert flip_bits(tmp_path / "r", 40, seed) > 20


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", range(2, 6))
def test_a_thousand_bits_that_flip_anywhere_are_told_of_or_change_nothing(
    tmp_path: Path, seed: int
) -> None:
    assert flip_bits(tmp_path / "r", 1000, seed) > 500


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
