"""A dead lane is sealed at its last durable commit, and damage is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from isogloss.errors import IsoglossError
from isogloss.store.lanes.files import read_header
from isogloss.store.recordings.recording import Recording
from isogloss.store.testing import SimulatedDisk
from isogloss.store.testing.disk import Ignore, removed
from isogloss.store.testing.samples import sample_batch
from isogloss.store.testing.scenario import (
    ROOT,
    SPEC,
    check,
    open_recording,
    run,
)


def missed(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except IsoglossError:
        return True
    return False


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


def test_the_last_shard_of_a_dead_lane_ends_with_its_last_proven_row() -> None:
    """What was reserved or written behind it goes, also in a lane of less than one shard."""
    disk = SimulatedDisk()
    run(disk, lives=1, groups=1)
    lane = open_recording(disk).open_lane()
    lane.append([sample_batch(SPEC, "p", 3)])
    dead = disk.after_kill()
    directory = ROOT / "lanes" / lane.name
    for site in range(len(SPEC.sites)):
        descriptor = dead.open(directory / f"site-{site}" / "c" / "0" / "0", write=True)
        dead.write(descriptor, [bytes(9000)], dead.size(descriptor))
        dead.close(descriptor)
    recording = open_recording(dead)
    assert recording.lanes()[-1].rows == lane.rows
    for site, layout in enumerate(read_header(dead, directory).layouts):
        assert lane.rows < layout.shard_rows
        descriptor = dead.open(directory / f"site-{site}" / "c" / "0" / "0")
        assert dead.size(descriptor) == layout.padded_bytes(lane.rows)
        dead.close(descriptor)
