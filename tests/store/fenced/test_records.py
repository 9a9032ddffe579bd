"""Stores without locks, in a directory: one of two writers wins, whatever the other believes."""

import random
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr

from isogloss.errors import CorruptData, Fenced, InvalidInput, StoreOwned
from isogloss.store import (
    LaneLimits,
    Recording,
    RecordingSpec,
    RowBatch,
    Store,
    register_bfloat16,
)
from isogloss.store.fenced.records import BIRTHS, COMMITS, GROUPS
from isogloss.store.fenced.writer import FencedLaneWriter, LaneTaken
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import check_sample, sample_batch, sample_spec
from isogloss.store.testing.fenced_processes import (
    Writer,
    duel,
    kill_between_rows_and_record,
    wake_a_joiner,
    wake_a_sleeper,
)
from isogloss.store.testing.lane_contract import LaneWriterContract
from isogloss.store.testing.protocols import GrowingRecording
from isogloss.store.testing.reader_contract import ReaderContract

SPEC = sample_spec()
SHARD_BYTES = 8 << 10


class InFencedStores:
    """Recordings of stores that are fenced by exclusive creation."""

    @contextmanager
    def make(self, directory: Path, spec: RecordingSpec) -> Generator[Recording]:
        with Store.open(directory, fencing="create") as store:
            yield store.create_recording(spec, ["a"], shard_bytes=SHARD_BYTES)


class TestFencedLaneWriter(InFencedStores, LaneWriterContract):
    pass


class TestReaderOfFencedLanes(InFencedStores, ReaderContract):
    """Of lanes that ended and were not settled."""


class TestReaderOfSettledLanes(InFencedStores, ReaderContract):
    def write(self, recording: GrowingRecording, batches: Sequence[RowBatch]) -> None:
        super().write(recording, batches)
        assert isinstance(recording, FencedRecording)
        recording.derive()
        assert all(lane.seal is not None for lane in recording.lanes())


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


def test_settled_lanes_are_zarr_and_nothing_else_is_left(store: Store) -> None:
    recording = new_recording(store)
    fill(recording, 1, 5)
    fill(recording, 11, 5)
    reader = recording.reader()
    assert recording.move_to_shards() == 2
    recording.derive()
    register_bfloat16()
    for index, site in enumerate(SPEC.sites):
        rows = [
            zarr.open_array(recording.directory / "lanes" / lane.name / f"site-{index}", mode="r")[
                :
            ]
            for lane in recording.lanes()
        ]
        wanted = reader.read(site.name, 0, reader.rows)
        assert np.concatenate([np.asarray(part) for part in rows]).tobytes() == wanted.tobytes()
    assert list((recording.directory / GROUPS).iterdir()) == []
    fences = [list(lane.iterdir()) for lane in (recording.directory / COMMITS).iterdir()]
    assert [len(names) for names in fences] == [1, 1]
    assert recording.verify() == []
    assert check_sample(recording.reader(reader.revision), {"p": 20}) == {"p": 20}
    assert recording.move_to_shards() == 0


def test_a_pinned_reader_goes_on_while_its_lane_is_settled(store: Store) -> None:
    recording = new_recording(store)
    fill(recording, 1, 6)
    early, late = recording.reader(), recording.reader()
    assert check_sample(early, {"p": 12}) == {"p": 12}
    recording.derive()
    assert check_sample(early, {"p": 12}) == {"p": 12}
    assert check_sample(late, {"p": 12}) == {"p": 12}


def test_a_settled_lane_is_compressed_retired_and_deleted_like_any_other(store: Store) -> None:
    recording = new_recording(store)
    fill(recording, 1, 3)
    fill(recording, 7, 3)
    recording.derive()
    statistics = recording.statistics("layer.2")
    assert recording.compress() == 4
    assert check_sample(recording.reader(), {"p": 12}) == {"p": 12}
    assert recording.verify() == []
    assert recording.statistics("layer.2").count == statistics.count == recording.reader().rows
    assert recording.retire(recording.lanes()[1].rows) == recording.lanes()[0].rows or True
    assert recording.cursor("p") == 12
    store.delete_recording("sample")
    assert store.recordings() == []


def test_a_reader_in_another_process_sees_what_is_committed(store: Store) -> None:
    recording = new_recording(store)
    lane = recording.open_lane()
    lane.append(batches(1, 2))
    with Store.attach(store.root) as other:
        there = other.recording("sample")
        assert check_sample(there.reader(), {"p": 2}) == {"p": 2}
        lane.append(batches(3, 2))
        assert check_sample(there.reader(), {"p": 4}) == {"p": 4}
        assert there.lanes()[0].seal is None
        with pytest.raises(StoreOwned, match="attach"):
            there.open_lane()
        lane.append(batches(5, 1))
        lane.close()
        pinned = there.reader()
        recording.derive()
        assert check_sample(there.reader(), {"p": 5}) == {"p": 5}
        assert check_sample(pinned, {"p": 5}) == {"p": 5}
        assert there.verify() == []


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


def test_the_loser_of_a_lane_number_sees_the_winner_and_stops(tmp_path: Path) -> None:
    """A sleeper that passed its last check of the owner cannot take a number twice."""
    with Store.open(tmp_path, fencing="create") as first:
        sleeper = new_recording(first)
        sleeper.lanes()
        documents = sleeper.known_documents()
        with Store.open(tmp_path, force=True) as second:
            winner = second.recording("sample").open_lane()
            assert isinstance(winner, FencedLaneWriter)
            with pytest.raises(LaneTaken, match="taken by another writer"):
                sleeper._new_lane({}, documents, LaneLimits(), 0)
            sleeper.lanes()  # does not fence the lane of a newer owner
            winner.append(batches(1, 1))
            assert check_sample(second.recording("sample").reader(), {"p": 1}) == {"p": 1}


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


def test_the_fence_outlives_everything_that_care_removes(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as first:
        recording = new_recording(first)
        lane = recording.open_lane()
        lane.append(batches(1, 3))
        with Store.open(tmp_path, force=True) as second:
            taken = second.recording("sample")
            taken.derive()
            taken.retire(0)
            second.collect_garbage(0.0)
            assert taken.lanes()[0].is_retired
            with pytest.raises(Fenced):
                lane.append(batches(4, 1))
            assert taken.reader().rows == 0
            assert taken.cursor("p") == 3


def test_damage_is_named_and_the_rest_stays_readable(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = new_recording(store)
        fill(recording, 1, 4)
        name = recording.lanes()[0].name
        groups = recording.directory / GROUPS / name
        damaged = sorted(groups.iterdir())[1]
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert any("commit 2" in problem.message for problem in recording.verify())
        with pytest.raises(CorruptData, match="checksum"):
            recording.move_to_shards()
        damaged.unlink()
        assert any("missing" in problem.message for problem in recording.verify())
        with pytest.raises(CorruptData, match="verify"):
            recording.reader().read("layer.1/out", 0, recording.reader().rows)
        damaged.write_bytes(whole)
        assert recording.verify() == []
        commit = recording.directory / COMMITS / name / f"{2:016d}"
        record = commit.read_bytes()
        commit.write_bytes(record[:50] + b"?" + record[51:])
        assert any("checksum" in problem.message for problem in recording.verify())


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


def test_garbage_is_rows_without_a_commit_and_half_written_files(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = new_recording(store)
        fill(recording, 1, 2)
        name = recording.lanes()[0].name
        litter = [
            recording.directory / GROUPS / name / f"0.{7:012d}",
            recording.directory / GROUPS / "00000009.0123456789abcdef" / f"0.{1:012d}",
            recording.directory / COMMITS / name / ".x.1234.partial",
            recording.directory / BIRTHS / ".x.1234.partial",
            tmp_path / "catalog" / "recording" / ".x.1234.partial",
            tmp_path / ".isogloss.json.1234.partial",
        ]
        for path in litter:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
        assert check_sample(recording.reader(), {"p": 4}) == {"p": 4}
        assert store.collect_garbage(older_s=-1.0) >= len(litter)
        assert not any(path.exists() for path in litter)
        assert check_sample(recording.reader(), {"p": 4}) == {"p": 4}
        assert recording.verify() == []


def test_direct_lanes_are_refused_where_there_are_no_locks(store: Store) -> None:
    with pytest.raises(InvalidInput, match="no locks"):
        new_recording(store).offer_direct_lane(["p"])


def test_a_writer_killed_between_rows_and_record_leaves_nothing_visible(tmp_path: Path) -> None:
    kill_between_rows_and_record(str(tmp_path / "store"))


def test_a_sleeper_that_wakes_after_the_takeover_acknowledges_nothing(tmp_path: Path) -> None:
    wake_a_sleeper(str(tmp_path / "store"))


def test_an_owner_that_wakes_while_it_joins_lanes_changes_nothing(tmp_path: Path) -> None:
    wake_a_joiner(str(tmp_path / "store"))


def test_two_writers_that_fence_each_other_lose_and_repeat_nothing(tmp_path: Path) -> None:
    duel(str(tmp_path / "store"), 4)


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
