"""Upkeep removes what crashes left behind, and nothing else."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    StoreOwned,
)
from isogloss.store import Recording, Store
from isogloss.store.testing import (
    check_sample,
    sample_batch,
    sample_spec,
)

SPEC = sample_spec()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a", "b"], shard_bytes=3 << 10)
        for first in (1, 5):
            with recording.open_lane() as lane:
                for sequence in range(first, first + 4):
                    lane.append([sample_batch(SPEC, "p", sequence)])
            if first == 1:
                recording.derive()
        recording.open_lane().append([sample_batch(SPEC, "p", 9)])
        yield store


def files_of(recording: Recording) -> list[Path]:
    return sorted(
        path for path in recording.directory.rglob("*") if path.is_file() and path.stat().st_size
    )


def test_litter_of_crashes_is_collected_and_nothing_else(store: Store, tmp_path: Path) -> None:
    recording = store.recording("sample")
    before = files_of(recording)
    lane = recording.directory / "lanes" / recording.lanes()[0].name
    litter = [
        lane / ".zarr.json.partial",
        lane / ".columns.1234.partial" / "zarr.json",
        recording.directory / "lanes" / "00000099.0123456789abcdef" / "commit.log",
        tmp_path / "recordings" / ("f" * 24) / "recording.json",
        tmp_path / "trash" / "x" / "y",
        tmp_path / "codes" / ("1" * 24) / ".x.1234.partial" / "zarr.json",
    ]
    young = tmp_path / "probes" / ".x.1234.partial" / "zarr.json"
    for path in [*litter, young]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    old = time.time() - 100_000
    os.utime(litter[-1].parent, (old, old))
    assert store.collect_garbage() == len(litter)
    assert files_of(recording) == before
    assert young.exists()
    assert not any(path.exists() for path in litter)
    check_sample(recording.reader(), {"p": 9})
    with Store.attach(tmp_path) as attached, pytest.raises(StoreOwned, match="attached"):
        attached.collect_garbage()
