"""Power goes at every operation; and every single precaution, taken away, is missed."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import isogloss.store.frames
import isogloss.store.seals
from isogloss.errors import IsoglossError
from isogloss.store.filesystem import FileSystem
from isogloss.store.frames import ByteRange
from isogloss.store.lanes import LaneWriter
from isogloss.store.recordings import Recording
from isogloss.store.testing import PowerLoss, SimulatedDisk
from isogloss.store.testing.disk import Survival
from isogloss.store.testing.samples import sample_batch
from isogloss.store.testing.scenario import (
    ROOT,
    SPEC,
    Outcome,
    check,
    count_operations,
    go_on,
    open_recording,
    run,
)

SURVIVALS: tuple[Survival, ...] = ("dropped", "kept", "mixed", "mixed", "mixed")
Ignore = Callable[[str, Path], bool] | None


def crash(stop_at: int, survival: Survival, seed: int, ignore: Ignore = None) -> None:
    """Cut a run short, recover, cut the recovery short too, recover again, go on."""
    disk = SimulatedDisk(stop_at=stop_at, ignore=ignore)
    outcome = run(disk)
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
    for stop_at, survival, seed in states(step=31):
        crash(stop_at, survival, seed)


@pytest.mark.slow
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


def missed(attempt: Callable[[], None]) -> bool:
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


def removed(operation: str, wanted: Callable[[Path], bool]) -> Ignore:
    return lambda what, path: what == operation and wanted(path)


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
            for seed in range(12):
                crash(stop_at, "mixed", seed)

    lose_power()
    monkeypatch.setattr(isogloss.store.frames, "crc32c", blind)
    assert missed(lose_power)


def test_ending_the_lane_after_a_failed_sync_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def try_again(self: LaneWriter, descriptor: int) -> None:
        try:
            self._files.sync_data(descriptor)
        except OSError:
            self._files.sync_data(descriptor)

    monkeypatch.setattr(LaneWriter, "_sync", try_again)
    assert any(missed(lambda n=n: fail_sync(n, "dropped")) for n in range(1, 30))


def test_the_checksums_of_data_find_a_frame_that_outlived_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log's frame came to the disk and the rows did not: only their checksum tells."""

    def lose_rows() -> None:
        outcome = Outcome(was_created=True)
        disk = SimulatedDisk()
        outcome.acknowledged = run(disk, lives=1, groups=2).acknowledged
        recording = open_recording(disk)
        lane = recording.open_lane()
        lane.append([sample_batch(SPEC, "p", 5)])
        path = ROOT / "lanes" / lane.name / "site-0" / "c" / "0" / "0"
        descriptor = disk.open(path, write=True)
        disk.write(descriptor, [bytes(24)], 4096)
        disk.sync_data(descriptor)
        check(disk.after_power_loss("kept"), outcome)

    lose_rows()

    def trusting(files: FileSystem, directory: Path, written: ByteRange, **_: bool) -> bool:
        return True

    monkeypatch.setattr(isogloss.store.seals, "is_sound", trusting)
    assert missed(lose_rows)


def test_the_lock_keeps_a_second_owner_from_sealing_a_living_lane() -> None:
    def two_owners(ignore: Ignore) -> None:
        disk = SimulatedDisk(ignore=ignore)
        outcome = run(disk, lives=1, groups=1)
        lane = open_recording(disk).open_lane()
        outcome.acknowledged.update(lane.append([sample_batch(SPEC, "p", 3)]).cursors)
        second = Recording(files=disk, directory=ROOT, etag="", is_owner=True)
        second.revision()
        outcome.acknowledged.update(lane.append([sample_batch(SPEC, "p", 4)]).cursors)
        check(disk.after_kill(), outcome)

    two_owners(None)
    unlocked = removed("lock", lambda path: path.name == "commit.log")
    assert missed(lambda: two_owners(unlocked))


def flip(disk: SimulatedDisk, path: Path, at: int) -> None:
    descriptor = disk.open(path, write=True)
    byte = np.empty(1, np.uint8)
    disk.read_into(descriptor, byte, at)
    disk.write(descriptor, [bytes([int(byte[0]) ^ 4])], at)
    disk.close(descriptor)


def test_decay_of_an_acknowledged_frame_is_named_and_never_silent() -> None:
    disk = SimulatedDisk()
    run(disk, lives=1, groups=1)
    lane = open_recording(disk).open_lane()
    sizes = [lane.log_bytes]
    for sequence in range(3, 7):
        lane.append([sample_batch(SPEC, "p", sequence)])
        sizes.append(lane.log_bytes)
    flip(disk, ROOT / "lanes" / lane.name / "commit.log", sizes[1] + 40)
    recording = open_recording(disk.after_kill())
    state = recording.lanes()[-1]
    assert state.seal is not None
    assert "frame 2 is broken, frame 3 not" in state.seal.damage
    assert recording.cursor("p") == 3


def test_decay_of_acknowledged_rows_is_named_and_never_silent() -> None:
    disk = SimulatedDisk()
    run(disk, lives=1, groups=1)
    lane = open_recording(disk).open_lane()
    for sequence in range(3, 7):
        lane.append([sample_batch(SPEC, "p", sequence)])
    flip(disk, ROOT / "lanes" / lane.name / "site-1" / "c" / "0" / "0", 4096 + 3)
    recording = open_recording(disk.after_kill())
    state = recording.lanes()[-1]
    assert state.seal is not None
    assert "data of frame 1" in state.seal.damage
    assert recording.cursor("p") == 2
