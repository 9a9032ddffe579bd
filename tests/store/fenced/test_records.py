"""Stores without locks, in a directory: one of two writers wins, whatever the other believes."""

import random
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from isogloss.store import (
    Store,
)
from isogloss.store.fenced.records import LaneRecords, group_problem
from isogloss.store.lanes.log_frames import KIND_COMMIT, CommitFrame
from isogloss.store.testing import FaultyFiles, check_sample, sample_batch, sample_spec
from isogloss.store.testing.fenced_processes import (
    Writer,
    duel,
    wake_a_joiner,
    wake_a_sleeper,
)


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "store", fencing="create") as opened:
        yield opened


def test_a_sleeper_that_wakes_after_the_takeover_acknowledges_nothing(tmp_path: Path) -> None:
    wake_a_sleeper(str(tmp_path / "store"))


def test_an_owner_that_wakes_while_it_joins_lanes_changes_nothing(tmp_path: Path) -> None:
    wake_a_joiner(str(tmp_path / "store"))


def test_two_writers_that_fence_each_other_lose_and_repeat_nothing(tmp_path: Path) -> None:
    duel(str(tmp_path / "store"), 4)


@pytest.mark.parametrize("reread", [False, True])
def test_rows_are_synced_before_a_look_only_where_they_are_reread(
    tmp_path: Path, reread: bool
) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = store.create_recording(sample_spec(), [])
        lane = recording.open_lane()
        lane.append([sample_batch(sample_spec(), "p", 1)])
        lane.close()
        files = FaultyFiles()
        records = LaneRecords(files, recording.directory, recording.lanes()[0].name)
        (commit,) = [frame for frame in records.frames(1) if frame.kind == KIND_COMMIT]
        written = CommitFrame.from_payload(commit.payload).ranges[0]
        options = {"reread": True} if reread else {}
        assert group_problem(records, written, **options) == ""
        assert files.calls["sync_data"] == int(reread)


def test_writers_killed_at_random_lose_and_repeat_nothing(tmp_path: Path) -> None:
    chance = random.Random(3)
    acknowledged: dict[str, int] = {}
    for _ in range(4):
        writer = Writer(str(tmp_path / "store"), "p")
        try:
            writer.until("p ")
            time.sleep(chance.random() * 0.1)
        finally:
            writer.end()
        acknowledged.update(writer.acknowledged)
    with Store.open(tmp_path / "store", lease_s=5.0) as store:
        assert check_sample(store.recording("sample").reader(), acknowledged)["p"] > 0
        assert store.verify() == []
