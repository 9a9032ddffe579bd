"""Upkeep removes what crashes left behind, and nothing else."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    StoreOwned,
)
from isogloss.store import Compaction, Recording, Store
from isogloss.store.lanes.lane_directory import COLUMNS_NAME
from isogloss.store.testing import (
    check_sample,
    sample_batch,
    sample_spec,
)
from isogloss.store.upkeep.upkeep import LaneUpkeep

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


def test_columns_are_derived_of_ended_lanes_and_of_no_other(store: Store) -> None:
    recording = store.recording("sample")

    def derived() -> list[bool]:
        lanes = [recording.directory / "lanes" / state.name for state in recording.lanes()]
        return [(lane / COLUMNS_NAME).exists() for lane in lanes]

    assert derived() == [True, False, False]
    recording.derive()
    assert derived() == [True, True, False]


def test_neighbours_that_ended_are_joined_and_a_lane_that_grows_is_not(store: Store) -> None:
    recording = store.recording("sample")
    (*ended, growing) = recording.lanes()
    rows = sum(state.rows for state in ended)
    assert recording.compact() == Compaction(lanes=2, into=1, rows=rows)
    assert [state.rows for state in recording.lanes()] == [rows, growing.rows]
    assert recording.lanes()[1].name == growing.name
    assert check_sample(recording.reader(), {"p": 9}) == {"p": 9}
    assert recording.retire(growing.rows) == rows
    assert recording.compact() == Compaction(lanes=0, into=0, rows=0)


@pytest.mark.parametrize("work", ["verify", "compress", "compact"])
def test_work_reports_the_bytes_of_rows_it_has_gone_through_up_to_all(
    store: Store, work: str
) -> None:
    recording = store.recording("sample")
    states = recording.lanes() if work == "verify" else recording.lanes()[:2]
    total = sum(state.rows for state in states) * sum(site.row_bytes for site in SPEC.sites)
    told: list[tuple[int, int]] = []

    def tell(lane: str, done: int, of: int) -> None:
        assert lane in {state.name for state in states}
        told.append((done, of))

    getattr(recording, work)(on_progress=tell)
    assert {of for _, of in told} == {total}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (total, total)


def test_a_lane_that_cannot_be_listed_is_verified_as_far_as_its_log_goes(store: Store) -> None:
    recording = store.recording("sample")
    name = recording.lanes()[1].name
    shard = recording.directory / "lanes" / name / "site-0" / "c" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[3] ^= 1
    shard.write_bytes(content)
    upkeep = LaneUpkeep(recording.files, recording.directory, SPEC, {})
    problems = upkeep.verify([], damaged=[name, "", "nowhere"])
    assert [problem.lane for problem in problems] == [name]
    assert "shard 0 is not what was written" in problems[0].message
