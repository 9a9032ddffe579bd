"""The description of a recording: written once, durable, read back."""

from pathlib import Path

import pytest

from isogloss.errors import CorruptData, NotFound
from isogloss.store import FileSystem
from isogloss.store.recordings.recording_files import create_recording_files, read_description
from isogloss.store.testing import PowerLoss, SimulatedDisk, sample_spec

SPEC = sample_spec()
ROOT = Path("/recording")


def test_it_is_durable_when_it_was_created() -> None:
    disk = SimulatedDisk()
    create_recording_files(disk, ROOT, SPEC, ["a", "\ud800"], 999)
    for seed in range(10):
        assert read_description(disk.after_power_loss("mixed", seed), ROOT) == (SPEC, 999)


def test_before_that_it_is_not_there_or_whole() -> None:
    whole = SimulatedDisk()
    create_recording_files(whole, ROOT, SPEC, ["a"])
    for stop_at in range(1, whole.operations + 1):
        disk = SimulatedDisk(stop_at=stop_at)
        with pytest.raises(PowerLoss):
            create_recording_files(disk, ROOT, SPEC, ["a"])
        left = disk.after_power_loss("mixed", stop_at)
        if left.exists(ROOT / "recording.json") and left.read_whole(ROOT / "recording.json"):
            try:
                assert read_description(left, ROOT)[0] == SPEC
            except CorruptData:
                continue  # half written, and not in the catalog


def test_one_that_is_gone_or_damaged_is_named(tmp_path: Path) -> None:
    files = FileSystem()
    with pytest.raises(NotFound, match="gone"):
        read_description(files, tmp_path)
    create_recording_files(files, tmp_path / "r", SPEC, [])
    path = tmp_path / "r" / "recording.json"
    path.write_bytes(path.read_bytes().replace(b"sample-corpus", b"sample-xorpus"))
    with pytest.raises(CorruptData, match="checksum"):
        read_description(files, tmp_path / "r")
