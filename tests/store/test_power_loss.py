"""Power goes at every operation; and every single precaution, taken away, is missed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest

import isogloss.store.lanes.log_frames
import isogloss.store.lanes.recover
import isogloss.store.recordings.lane_list
from isogloss.errors import IsoglossError, StorageError
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.log_frames import CommitFrame
from isogloss.store.lanes.writer import LaneWriter
from isogloss.store.recordings.recording import Recording
from isogloss.store.schema.recording_spec import Rows
from isogloss.store.schema.revision import Revision
from isogloss.store.shards.byte_range import ByteRange
from isogloss.store.shards.quantised import quantise_rows, restore_rows
from isogloss.store.testing import PowerLoss, SimulatedDisk
from isogloss.store.testing.disk import Ignore, Survival, removed
from isogloss.store.testing.samples import check_sample
from isogloss.store.testing.scenario import (
    ROOT,
    SPEC,
    Outcome,
    UpkeepWork,
    check,
    count_operations,
    go_on,
    open_recording,
    run,
    tend,
    tend_after_kill,
)

SURVIVALS: tuple[Survival, ...] = ("dropped", "kept", "mixed", "mixed", "mixed")


def cut_at(stop_at: int, ignore: Ignore = None) -> tuple[SimulatedDisk, Outcome]:
    """Record until the power goes."""
    disk = SimulatedDisk(stop_at=stop_at, ignore=ignore)
    return disk, run(disk)


def crash(stop_at: int, survival: Survival, seed: int, ignore: Ignore = None) -> None:
    """Cut a run short, recover, cut the recovery short too, recover again, go on."""
    disk, outcome = cut_at(stop_at, ignore)
    recover(disk, outcome, survival, seed, ignore)


def recover(
    disk: SimulatedDisk, cut: Outcome, survival: Survival, seed: int, ignore: Ignore = None
) -> None:
    """Recover what is left of a disk, be cut short once more, recover again, go on.

    Neither the disk nor the outcome changes, so that much can be left of one disk in turn.
    """
    outcome = replace(cut, acknowledged=dict(cut.acknowledged))
    left = disk.after_power_loss(survival, seed)
    left.ignore = ignore
    left.stop_at = random.Random(seed).randrange(1, 40)
    try:
        check(left, outcome)
        go_on(left, outcome)
    except PowerLoss:
        left = left.after_power_loss(survival, seed + 1)
    left.stop_at = 0
    check(left, outcome)
    go_on(left, outcome)


def traced() -> list[tuple[str, Path]]:
    disk = SimulatedDisk()
    run(disk)
    return disk.trace


def states(step: int, offset: int = 0) -> list[tuple[int, Survival, int]]:
    operations, _ = count_operations()
    return [
        (stop_at, survival, 1000 * stop_at + number)
        for stop_at in range(1 + offset, operations + 2, step)
        for number, survival in enumerate(SURVIVALS)
    ]


def test_nothing_acknowledged_is_lost_when_the_power_goes_anywhere() -> None:
    for stop_at, some in groupby(states(step=31), key=itemgetter(0)):
        disk, outcome = cut_at(stop_at)
        for _, survival, seed in some:
            recover(disk, outcome, survival, seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_acknowledged_is_lost_in_ten_thousand_states() -> None:
    tried = 0
    for turn in range(100):
        for stop_at, survival, seed in states(step=1):
            crash(stop_at, survival, seed + 1_000_000 * turn)
            tried += 1
        if tried >= 10_000:
            return


def fail_sync(
    number: int, survival: Survival, ignore: Ignore = None, *, derive: bool = True
) -> None:
    """Let one sync fail and lose its bytes, go on, then lose power."""
    disk = SimulatedDisk(fail_sync_at=number, ignore=ignore)
    outcome = run(disk, lives=3, derive=derive)
    check(disk, outcome)
    left = disk.after_power_loss(survival, number)
    left.ignore = ignore
    check(left, outcome)
    go_on(left, outcome)


def test_a_sync_that_fails_and_loses_its_bytes_loses_nothing_acknowledged() -> None:
    for number in range(1, 90, 4):
        fail_sync(number, SURVIVALS[number % len(SURVIVALS)], derive=number % 3 == 0)


def missed(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except IsoglossError:
        return True
    return False


def is_caught(ignore: Ignore) -> bool:
    """Whether any crash state shows that a precaution is missing, and only then."""
    some = states(step=5)
    random.Random(0).shuffle(some)
    for state in some:
        if missed(lambda s=state: crash(*s, ignore)):
            crash(*state)
            return True
    return False


@pytest.mark.parametrize(
    "ignore",
    [
        removed("sync_data", lambda path: path.parts[-3:-2] == ("c",)),
        removed("sync_data", lambda path: path.name == "commit.log"),
        removed("sync_data", lambda path: path.name == ".seal.json.partial"),
        removed("sync_data", lambda path: path.name.startswith("c.")),
        removed("sync_directory", lambda path: path.parts[-2:-1] == ("c",)),
        removed("sync_directory", lambda path: path.name == "c"),
        removed("sync_directory", lambda path: path.name == "lanes"),
        removed("sync_directory", lambda path: path.parent.name == "lanes"),
        removed("sync_directory", lambda path: path.name.startswith("site-")),
        removed("sync_directory", lambda path: path.name.endswith(".partial")),
        removed("sync_directory", lambda path: path == ROOT),
    ],
    ids=[
        "data",
        "log",
        "seal",
        "column chunks",
        "shard's directory",
        "directory of shards",
        "lanes",
        "lane",
        "site",
        "derived group",
        "recording",
    ],
)
def test_every_sync_is_needed(ignore: Ignore) -> None:
    assert is_caught(ignore)


def test_reading_past_the_page_cache_is_needed() -> None:
    ignore = removed("drop_cache", lambda path: True)
    assert any(
        missed(lambda n=n: fail_sync(n, "dropped", ignore, derive=False)) for n in range(1, 30)
    )


def test_the_checksum_of_frames_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(buffer: object, previous: int = 0) -> int:
        return 0

    torn = [
        stop_at
        for stop_at, (operation, path) in enumerate(traced(), 1)
        if operation == "sync_data" and path.name == "commit.log"
    ]

    def lose_power() -> None:
        for stop_at in torn[1:5]:
            disk, outcome = cut_at(stop_at)
            for seed in range(12):
                recover(disk, outcome, "mixed", seed)

    lose_power()
    monkeypatch.setattr(isogloss.store.lanes.log_frames, "crc32c", blind)
    assert missed(lose_power)


def test_ending_the_lane_after_a_failed_sync_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def try_again(self: LaneWriter, descriptors: Sequence[int]) -> None:
        try:
            self._files.sync_together(descriptors)
        except OSError:
            self._files.sync_together(descriptors)

    monkeypatch.setattr(LaneWriter, "_sync", try_again)
    assert any(missed(lambda n=n: fail_sync(n, "dropped")) for n in range(1, 30))


def test_the_checksums_of_data_find_a_frame_that_outlived_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log's frame came to the disk and the rows did not: only their checksum tells."""

    def lose_rows() -> None:
        for stop_at in while_a_commit_is_synced()[::3]:
            disk, outcome = cut_at(stop_at)
            for seed in range(4):
                recover(disk, outcome, "mixed", seed)

    lose_rows()

    def trusting(files: FileSystem, directory: Path, written: ByteRange, **_: bool) -> bool:
        return True

    monkeypatch.setattr(isogloss.store.lanes.recover, "matches_checksum", trusting)
    assert missed(lose_rows)


def while_a_commit_is_synced() -> list[int]:
    """Return the operations, counted from 1, that bring rows or frames of a lane to the disk."""
    return [
        stop_at
        for stop_at, (operation, path) in enumerate(traced(), 1)
        if operation == "sync_data" and (path.name == "commit.log" or path.parts[-3] == "c")
    ]


def attached(disk: SimulatedDisk) -> Recording:
    """Open the recording of a disk as a process that does not own the store."""
    return Recording(files=disk, directory=ROOT, etag="", is_owner=False)


def trust_the_log(files: FileSystem, directory: Path, log: int, newest: CommitFrame) -> bool:
    files.sync_data(log)
    return True


def test_who_reads_along_sees_only_whole_rows_after_a_power_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody sealed the lane yet: its newest frame may stand there without its rows."""

    def read_along() -> None:
        for stop_at in while_a_commit_is_synced():
            disk, outcome = cut_at(stop_at)
            for seed in range(6):
                left = disk.after_power_loss("mixed", seed)
                check_sample(attached(left).reader(), outcome.acknowledged)

    read_along()
    monkeypatch.setattr(isogloss.store.recordings.lane_list, "is_durable", trust_the_log)
    assert missed(read_along)


def test_what_was_seen_by_reading_along_outlives_a_power_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newest frame and its rows stand in the page cache, and nobody acknowledged them yet."""

    def see_and_lose() -> None:
        for stop_at in while_a_commit_is_synced():
            disk, outcome = cut_at(stop_at)
            view = disk.after_kill()
            seen = check_sample(attached(view).reader(), outcome.acknowledged)
            check(view.after_power_loss("dropped"), Outcome(seen, was_created=True))

    see_and_lose()
    monkeypatch.setattr(isogloss.store.recordings.lane_list, "is_durable", trust_the_log)
    assert missed(see_and_lose)


def compact(recording: Recording) -> None:
    recording.compact()


def compact_compressed(recording: Recording) -> None:
    recording.compress()
    recording.compact()


@pytest.mark.parametrize(("upkeep", "step"), [(compact, 29), (compact_compressed, 53)])
def test_power_may_go_at_any_moment_of_compaction(upkeep: UpkeepWork, step: int) -> None:
    after = 1
    while tend(upkeep, after, SURVIVALS[after % 5], after, derive=after % 2 == 0):
        after += step
    assert after > 5 * step


def compress(recording: Recording) -> None:
    recording.compress()


def retire(recording: Recording) -> None:
    recording.retire(recording.lanes()[-1].rows)


def behind_renames(upkeep: UpkeepWork, lives: int = 3) -> list[int]:
    """Return the operations of upkeep, counted from 1, that follow a rename: its syncs."""
    disk = SimulatedDisk()
    run(disk, lives=lives, groups=1, derive=False)
    start = disk.operations
    upkeep(open_recording(disk))
    found = disk.trace[start:]
    return [at for at, (operation, _) in enumerate(found, 2) if operation == "replace"]


@pytest.mark.parametrize("upkeep", [compact, compress])
def test_upkeep_that_was_killed_is_not_built_on_before_it_is_durable(upkeep: UpkeepWork) -> None:
    moments = behind_renames(upkeep)
    assert len(moments) > 1
    for after in moments[-3:]:
        assert tend_after_kill(upkeep, after, after)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("upkeep", [compact, compact_compressed])
def test_power_may_go_at_each_operation_of_compaction(upkeep: UpkeepWork) -> None:
    after, went = 1, True
    while went:
        for number, survival in enumerate(SURVIVALS):
            went = tend(upkeep, after, survival, 7 * after + number, derive=after % 2 == 0)
        after += 1
    assert after > 100


@pytest.mark.parametrize(
    "ignore",
    [
        removed("sync_data", lambda path: path.parts[-3:-2] == ("c",)),
        removed("sync_data", lambda path: path.name == "commit.log"),
        removed("sync_data", lambda path: "seal.json" in path.name),
        removed("sync_directory", lambda path: path.name == "lanes"),
        removed("sync_directory", lambda path: path.name.endswith(".partial")),
        removed("sync_directory", lambda path: path.name.startswith("site-")),
        removed("sync_directory", lambda path: path.parts[-2:-1] == ("c",)),
        removed("sync_directory", lambda path: path.name == "c"),
    ],
    ids=["data", "log", "seal", "lanes", "lane", "site", "shard's directory", "shards"],
)
def test_every_sync_of_compaction_is_needed(ignore: Ignore) -> None:
    def join_and_lose(seed: int, ignore: Ignore) -> None:
        disk = SimulatedDisk()
        outcome = run(disk, lives=2, groups=1, derive=False)
        disk.ignore = ignore
        open_recording(disk).compact()
        left = disk.after_power_loss("mixed", seed)
        check(left, outcome)
        problems = open_recording(left).verify()
        if problems:
            raise StorageError(problems[0].message)

    for seed in range(40):
        if missed(lambda s=seed: join_and_lose(s, ignore)):
            join_and_lose(seed, None)
            return
    pytest.fail("no state shows that the sync is missing")


def rows_of(disk: SimulatedDisk) -> list[list[Rows]]:
    """Return the rows of each site of each lane of what is left."""
    recording = open_recording(disk)
    revision = recording.revision()
    found: list[list[Rows]] = []
    for lane in revision.lanes:
        reader = recording.reader(Revision(recording=revision.recording, lanes=(lane,)))
        found.append([reader.read(site.name, 0, reader.rows) for site in SPEC.sites])
    return found


def check_quantised(disk: SimulatedDisk, exact: list[list[Rows]], *, all_of_it: bool) -> None:
    """Refuse rows of a lane's site that are neither all exact nor all rounded."""
    for lane, wanted in zip(rows_of(disk), exact, strict=True):
        for found, values in zip(lane, wanted, strict=True):
            rounded = restore_rows(*quantise_rows(values), values.dtype)
            allowed = [rounded.tobytes()] + [values.tobytes()] * (not all_of_it)
            if found.tobytes() not in allowed:
                raise StorageError("rows are neither exact nor rounded")
    problems = open_recording(disk).verify()
    if problems:
        raise StorageError(problems[0].message)


def quantise(
    after: int, survival: Survival, seed: int, ignore: Ignore = None, *, compressed: bool = False
) -> bool:
    """Lose power so many operations into quantising; return whether it went before the end."""
    disk = SimulatedDisk()
    run(disk, lives=2, groups=1, derive=False)
    if compressed:
        open_recording(disk).compress()
    exact = rows_of(disk)
    disk.ignore = ignore
    disk.stop_at = disk.operations + after
    went = False
    try:
        open_recording(disk).quantise()
    except PowerLoss:
        went = True
    left = disk.after_power_loss(survival, seed)
    check_quantised(left, exact, all_of_it=not went)
    open_recording(left).quantise()
    check_quantised(left.after_power_loss("dropped"), exact, all_of_it=True)
    return went


@pytest.mark.parametrize("upkeep", [retire, Recording.quantise])
def test_lossy_upkeep_that_was_killed_is_not_built_on_before_it_is_durable(
    upkeep: UpkeepWork,
) -> None:
    moments = behind_renames(upkeep, lives=2)
    for after in moments[-3:]:
        disk = SimulatedDisk()
        run(disk, lives=2, groups=1, derive=False)
        exact = rows_of(disk)
        disk.stop_at = disk.operations + after
        with pytest.raises(PowerLoss):
            upkeep(open_recording(disk))
        again = disk.after_kill()
        upkeep(open_recording(again))
        for seed in range(3):
            left = again.after_power_loss("mixed", seed)
            if upkeep is not retire:
                check_quantised(left, exact, all_of_it=True)
            assert open_recording(left).verify() == []
            retire(open_recording(left))
            assert open_recording(left).cursor("p") == 4
            assert open_recording(left).reader().rows == len(exact[1][0])
            assert open_recording(left).verify() == []


@pytest.mark.parametrize("compressed", [False, True])
def test_power_may_go_at_any_moment_of_quantising(compressed: bool) -> None:
    after = 1
    while quantise(after, SURVIVALS[after % 5], after, compressed=compressed):
        after += 17
    assert after > 85


@pytest.mark.parametrize(
    "ignore",
    [
        removed("sync_data", lambda path: "quantised" in path.parts[-3]),
        removed("sync_directory", lambda path: "quantised" in path.parent.name),
        removed("sync_directory", lambda path: "quantised" in path.name),
        removed("sync_directory", lambda path: path.parent.name == "lanes"),
    ],
    ids=["chunks", "array", "group", "lane"],
)
def test_every_sync_of_quantising_is_needed(ignore: Ignore) -> None:
    for seed in range(40):
        if missed(lambda s=seed: quantise(1 << 20, "mixed", s, ignore)):
            quantise(1 << 20, "mixed", seed)
            return
    pytest.fail("no state shows that the sync is missing")


def flip(disk: SimulatedDisk, path: Path, at: int) -> None:
    descriptor = disk.open(path, write=True)
    byte = np.empty(1, np.uint8)
    disk.read_into(descriptor, byte, at)
    disk.write(descriptor, [bytes([int(byte[0]) ^ 4])], at)
    disk.close(descriptor)
