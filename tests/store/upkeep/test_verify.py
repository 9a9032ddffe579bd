import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    CorruptData,
    InvalidInput,
    NotFound,
    StorageFull,
    StoreOwned,
    UnsupportedVersion,
)
from isogloss.store import LaneLimits, Recording, Store
from isogloss.store.testing import (
    PowerLoss,
    SimulatedDisk,
    check_sample,
    sample_batch,
    sample_spec,
)
from isogloss.store.testing.disk import Survival
from isogloss.store.testing.scenario import open_recording, run

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


def test_a_sound_store_has_no_problem(store: Store) -> None:
    assert store.verify() == []


def test_a_flipped_bit_in_any_file_is_found_and_named(store: Store) -> None:
    recording = store.recording("sample")
    recording.close()
    missed: list[Path] = []
    for path in files_of(recording):
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 3] ^= 0x08
        path.write_bytes(damaged)
        if not is_found(recording) and not is_padding(path, len(whole) // 3):
            missed.append(path)
        path.write_bytes(whole)
    assert missed == []
    assert store.verify() == []


def is_found(recording: Recording) -> bool:
    try:
        fresh = Recording(
            files=recording._files, directory=recording.directory, etag="", is_owner=False
        )
    except (CorruptData, UnsupportedVersion):
        return True
    return fresh.verify() != []


def is_padding(path: Path, at: int) -> bool:
    """Whether no row ever stood at this byte: the zeros that complete an inner chunk."""
    return path.parts[-3] == "c" and path.read_bytes()[at:].strip(b"\0") == b"\x08"


def test_a_missing_shard_is_found_and_named(store: Store) -> None:
    recording = store.recording("sample")
    (recording.directory / "lanes" / recording.lanes()[1].name / "site-0/c/0/0").unlink()
    messages = [problem.message for problem in store.verify()]
    assert any("'layer.1/out': shard 0 cannot be read" in message for message in messages)
    assert {problem.lane for problem in store.verify()} == {recording.lanes()[1].name}


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


def test_limits_are_checked_before_anything_is_accepted(store: Store) -> None:
    recording = store.recording("sample")
    recording.close()
    rows = recording.revision().rows
    batch = sample_batch(SPEC, "p", 10)
    row_bytes = SPEC.row_bytes + 24
    for limits, match in (
        (LaneLimits(max_rows=rows + batch.rows - 1), "rows would pass the limit"),
        (LaneLimits(max_bytes=(rows + batch.rows) * row_bytes - 1), "bytes would pass the limit"),
        (LaneLimits(free_bytes=1 << 60), "must stay free"),
    ):
        with recording.open_lane(limits) as lane:
            with pytest.raises(StorageFull, match=match):
                lane.append([batch])
            assert lane.rows == 0
            assert lane.append([sample_batch(SPEC, "p", 9)]).cursors == {"p": 9}
    with recording.open_lane(LaneLimits(max_rows=rows + batch.rows)) as lane:
        lane.append([batch])
    with pytest.raises(InvalidInput, match="max_rows -1"):
        LaneLimits(max_rows=-1)


def test_the_oldest_lanes_make_room_and_nothing_begins_anew(store: Store) -> None:
    recording = store.recording("sample")
    pinned, revision = recording.reader(), recording.revision()
    pinned.read("layer.1/out", 0, pinned.rows)
    rows = [lane.rows for lane in recording.lanes()]
    assert recording.retire(sum(rows)) == 0
    assert recording.retire(rows[2]) == rows[0] + rows[1]
    assert recording.retire(0) == 0
    assert recording.revision().rows == rows[2]
    assert recording.cursor("p") == 9
    wanted = sample_batch(SPEC, "p", 9).sites["layer.2"]
    assert recording.reader().read("layer.2", 0, rows[2]).tobytes() == wanted.tobytes()
    assert len(recording.reader().documents()) == 9
    assert len(pinned.read("layer.1/out", 0, pinned.rows)) == sum(rows)
    with pytest.raises(NotFound, match="take a new one"):
        recording.reader(revision)
    assert store.verify() == []
    recording.close()
    with recording.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", 10)])
    lanes = recording.directory / "lanes"
    assert sorted(path.name for path in (lanes / revision.lanes[0][0]).iterdir()) == [
        "documents",
        "seal.json",
    ]


@pytest.mark.parametrize("survival", ["dropped", "kept", "mixed"])
def test_power_may_go_at_any_moment_of_retiring(survival: Survival) -> None:
    after, ended = 0, False
    while not ended:
        after += 4
        disk = SimulatedDisk()
        run(disk, lives=2, groups=1)
        keep = open_recording(disk).lanes()[1].rows
        disk.stop_at = disk.operations + after
        try:
            open_recording(disk).retire(keep)
            ended = True
        except PowerLoss:
            pass
        left = disk.after_power_loss(survival, after)
        recording = open_recording(left)
        assert [lane.rows for lane in recording.lanes()][-1] == keep
        assert recording.cursor("p") == 4
        recording.retire(keep)
        assert recording.reader().rows == keep
        assert len(recording.reader().documents()) == 8
        assert recording.verify() == []
    assert after > 8
