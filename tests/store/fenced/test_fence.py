"""A fence ends a lane: what was acknowledged stays, nothing follows."""

from collections.abc import Generator
from pathlib import Path

import pytest

from isogloss.errors import CorruptData, Fenced
from isogloss.store import (
    LaneLimits,
    Recording,
    RowBatch,
    Store,
)
from isogloss.store.fenced.records import BIRTHS, GROUPS
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()


SHARD_BYTES = 8 << 10


def batches(first: int, count: int, producer: str = "p") -> list[RowBatch]:
    return [sample_batch(SPEC, producer, number) for number in range(first, first + count)]


def fill(recording: Recording, first: int, groups: int, producer: str = "p") -> None:
    with recording.open_lane() as lane:
        for group in range(groups):
            lane.append(batches(first + 2 * group, 2, producer))


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "store", fencing="create") as opened:
        yield opened


def new_recording(store: Store) -> FencedRecording:
    recording = store.create_recording(SPEC, ["a"], shard_bytes=SHARD_BYTES)
    assert isinstance(recording, FencedRecording)
    return recording


def test_another_owner_ends_the_lane_and_goes_on(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as first:
        recording = new_recording(first)
        lane = recording.open_lane()
        lane.append(batches(1, 2))
        with Store.open(tmp_path, force=True) as second:
            with pytest.raises(Fenced, match="another owner took the store over"):
                lane.append(batches(3, 1))
            with pytest.raises(Fenced):
                lane.append(batches(3, 1))
            assert not lane.is_open
            for attempt in (
                recording.open_lane,
                recording.move_to_shards,
                lambda: recording.retire(0),
                lambda: first.delete_recording("sample"),
                lambda: first.create_recording(sample_spec("other"), ["a"]),
                first.collect_garbage,
            ):
                with pytest.raises(Fenced, match="taken over"):
                    attempt()
            taken = second.recording("sample")
            assert taken.cursor("p") == 2
            fill(taken, 3, 2)
            assert check_sample(taken.reader(), {"p": 6}) == {"p": 6}
            assert check_sample(recording.reader(), {"p": 6}) == {"p": 6}


def test_a_sleeper_that_acknowledged_before_it_was_fenced_loses_nothing(tmp_path: Path) -> None:
    """Takeover, then the sleeper opens a lane before anybody looked at its recording again."""
    with Store.open(tmp_path, fencing="create") as first:
        sleeper = new_recording(first)
        sleeper._ownership = None  # it passed its check of the owner just before it fell asleep
        with Store.open(tmp_path, force=True) as second:
            lane = FencedRecording._new_lane(
                sleeper, {}, sleeper.known_documents(), LaneLimits(), 0
            )
            lane.append(batches(1, 1))
            taken = second.recording("sample")
            assert taken.cursor("p") == 1
            with pytest.raises(Fenced):
                lane.append(batches(2, 1))
            fill(taken, 2, 1)
            assert check_sample(taken.reader(), {"p": 3}) == {"p": 3}


def test_a_dead_lane_with_a_damaged_commit_is_cut_before_it_and_says_so(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as first:
        recording = new_recording(first)
        lane = recording.open_lane()
        for group in range(4):
            lane.append(batches(1 + group, 1))
        name = lane.name
        (recording.directory / GROUPS / name / f"0.{2:012d}").write_bytes(b"torn")
        with Store.open(tmp_path, force=True) as second:
            taken = second.recording("sample")
            assert check_sample(taken.reader(), {}) == {"p": 2}
            assert taken.cursor("p") == 2
            problems = taken.verify()
            assert any("acknowledged rows were lost" in p.message for p in problems)
            taken.derive()
            assert check_sample(taken.reader(), {}) == {"p": 2}
            assert any("acknowledged rows were lost" in p.message for p in taken.verify())
            with pytest.raises(Fenced):
                lane.append(batches(5, 1))
        (recording.directory / BIRTHS / f"{1:08d}").write_bytes(b"short")
        with Store.open(tmp_path, force=True) as third:
            with pytest.raises(CorruptData, match="birth 00000001"):
                third.recording("sample").open_lane()
            assert any("birth" in problem.message for problem in third.verify())
