"""Rows move to another tier whole, or stay as they are."""

import dataclasses
from pathlib import Path

import pytest

from isogloss.errors import CorruptData, IsoglossError, StorageFull
from isogloss.store import Recording, Store
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.testing import (
    FaultyFiles,
    PowerLoss,
    SimulatedDisk,
    check_sample,
    sample_batch,
    sample_spec,
)
from isogloss.store.testing.disk import Survival
from isogloss.store.testing.scenario import ROOT, Outcome, check, live, open_recording

SPEC = sample_spec()


def sealed(store: Store, shard_bytes: int = 3 << 10) -> Recording:
    recording = store.create_recording(SPEC, [], shard_bytes=shard_bytes)
    for first in (1, 9):
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", first + i) for i in range(8)])
    return recording


def test_damaged_rows_are_never_compressed(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = sealed(store)
        path = recording.directory / "lanes" / recording.lanes()[0].name / "site-1/c/0/0"
        content = bytearray(path.read_bytes())
        content[4096 + 11] ^= 1
        path.write_bytes(content)
        with pytest.raises(CorruptData, match="run verify"):
            recording.compress()
        assert path.exists()


def begin(disk: SimulatedDisk) -> Outcome:
    outcome = Outcome(was_created=True)
    create_recording_files(disk, ROOT, SPEC, ["a"], 3 << 10)
    live(disk, outcome, groups=1, derive=False)
    return outcome


def lose_power_while_compressing(after: int, survival: Survival) -> bool:
    """Return whether the power went before compression ended."""
    disk = SimulatedDisk()
    outcome = begin(disk)
    disk.stop_at = disk.operations + after
    try:
        open_recording(disk).compress()
    except PowerLoss:
        left = disk.after_power_loss(survival, after)
        check(left, outcome)
        open_recording(left).compress()
        check(left, outcome)
        check(left.after_power_loss("dropped"), outcome)
        return True
    return False


def test_power_may_go_at_any_moment_of_compression() -> None:
    survivals: tuple[Survival, ...] = ("dropped", "kept", "mixed")
    after = 1
    while lose_power_while_compressing(after, survivals[after % 3]):
        after += 3
    assert after > 20


@pytest.mark.parametrize("kind", ["shard", "name"])
def test_every_sync_of_compression_is_needed(kind: str) -> None:
    def ignore(operation: str, path: Path) -> bool:
        if kind == "shard":
            return operation == "sync_data" and "compressed" in str(path)
        return operation == "sync_directory" and path.parent.name == "lanes"

    disk = SimulatedDisk()
    outcome = begin(disk)
    disk.ignore = ignore
    open_recording(disk).compress()
    lost = 0
    for seed in range(20):
        try:
            check(disk.after_power_loss("mixed", seed), dataclasses.replace(outcome))
        except IsoglossError:
            lost += 1
    assert lost


def make(store: Store, lives: int = 2) -> Recording:
    recording = store.create_recording(SPEC, ["a"], shard_bytes=3 << 10)
    for _ in range(lives):
        with recording.open_lane() as lane:
            for _ in range(3):
                lane.append([sample_batch(SPEC, "p", lane.cursors.get("p", 0) + 1)])
    return recording


def test_damaged_rows_are_never_quantised(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=1)
        path = recording.directory / "lanes" / recording.lanes()[0].name / "site-1/c/0/0"
        whole = path.read_bytes()
        path.write_bytes(whole[:4107] + bytes([whole[4107] ^ 1]) + whole[4108:])
        with pytest.raises(CorruptData, match="run verify"):
            recording.quantise(["layer.2"])
        assert path.exists()
        assert recording.quantisation() == {}


def test_a_full_disk_leaves_the_exact_rows(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        directory = make(store, lives=1).directory
    for place in (1, 4, 9):
        full = FaultyFiles(fail_at=place, error=28, operations=frozenset({"write"}))
        recording = Recording(files=full, directory=directory, etag="", is_owner=True)
        with pytest.raises(StorageFull, match="free space"):
            recording.quantise(["layer.2"])
        assert check_sample(recording.reader(), {"p": 3}) == {"p": 3}
