"""Shuffled batches hold the rows they name, resumed, shared or read ahead."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, NotFound, ShapeError
from isogloss.store import (
    Recording,
    RecordingReader,
    Store,
)
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.testing import sample_batch, sample_spec

SITES = ("layer.1/out", "layer.2")


SPEC = sample_spec()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """Three lanes of small shards: sealed, sealed and derived, live."""
    with Store.open(tmp_path_factory.mktemp("readers")) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=12 << 10)
        for first in (1, 21, 41):
            lane = recording.open_lane()
            lane.append([sample_batch(SPEC, "p", first + i) for i in range(20)])
            if first == 1:
                lane.close()
                recording.derive()
            elif first == 21:
                lane.close()
        yield recording


@pytest.fixture(scope="module")
def reader(recording: Recording) -> RecordingReader:
    return recording.reader()


def wanted(site: str) -> np.ndarray:
    return np.concatenate([sample_batch(SPEC, "p", i).sites[site] for i in range(1, 61)])


@pytest.mark.parametrize("mapped", [True, False])
def test_an_epoch_visits_every_row_once_with_its_own_activations(
    reader: RecordingReader, mapped: bool
) -> None:
    assert all(reader.table(site) is not None for site in SITES)
    steps = list(
        reader.shuffled(
            SITES,
            seed=3,
            epoch=1,
            batch_rows=50,
            window_rows=256,
            block_rows=8,
            mapped=mapped,
        )
    )
    assert [batch.step for batch in steps] == list(range(reader.steps_per_epoch(50)))
    rows = np.concatenate([batch.rows for batch in steps])
    assert len(np.unique(rows)) == len(rows) == reader.rows // 50 * 50
    assert not np.array_equal(rows, np.sort(rows))
    for batch in steps:
        for site in SITES:
            assert batch.sites[site].tobytes() == wanted(site)[batch.rows].tobytes()


@pytest.mark.parametrize("prefetch", [0, 1, 3])
@pytest.mark.parametrize("start", [0, 1, 7, 11])
def test_reading_resumed_at_a_step_gives_the_same_remaining_batches(
    reader: RecordingReader, start: int, prefetch: int
) -> None:
    whole = list(reader.shuffled(SITES[:1], seed=3, epoch=1, batch_rows=64, window_rows=200))
    part = list(
        reader.shuffled(
            SITES[:1],
            seed=3,
            epoch=1,
            batch_rows=64,
            window_rows=200,
            start_step=start,
            prefetch=prefetch,
            mapped=start % 2 == 0,
        )
    )
    assert [batch.step for batch in part] == list(range(start, len(whole)))
    for one, other in zip(whole[start:], part, strict=True):
        np.testing.assert_array_equal(one.rows, other.rows)


def test_ranks_share_each_step_without_talking(reader: RecordingReader) -> None:
    alone = list(reader.shuffled(SITES[:1], seed=1, epoch=0, batch_rows=90, window_rows=160))
    shares = [
        list(
            reader.shuffled(
                SITES[:1], seed=1, epoch=0, batch_rows=30, window_rows=160, rank=rank, world=3
            )
        )
        for rank in range(3)
    ]
    assert len(alone) == reader.steps_per_epoch(30, world=3)
    for step, batch in enumerate(alone):
        together = np.concatenate([share[step].rows for share in shares])
        np.testing.assert_array_equal(together, batch.rows)
    resumed = list(
        reader.shuffled(
            SITES[:1],
            seed=1,
            epoch=0,
            batch_rows=30,
            window_rows=160,
            rank=1,
            world=3,
            start_step=4,
        )
    )
    np.testing.assert_array_equal(resumed[0].rows, shares[1][4].rows)


def test_only_kept_rows_are_visited(reader: RecordingReader) -> None:
    keep = np.random.default_rng(0).random(reader.rows) < 0.4
    steps = list(reader.shuffled(SITES, seed=0, epoch=0, batch_rows=20, keep=keep))
    rows = np.concatenate([batch.rows for batch in steps])
    assert keep[rows].all()
    assert len(np.unique(rows)) == len(rows) == int(keep.sum()) // 20 * 20
    assert len(steps) == reader.steps_per_epoch(20, keep)
    assert steps[0].sites[SITES[1]].tobytes() == wanted(SITES[1])[steps[0].rows].tobytes()


def test_seeds_and_epochs_have_orders_of_their_own(reader: RecordingReader) -> None:
    def first(seed: int, epoch: int) -> list[int]:
        steps = reader.shuffled(SITES[:1], seed=seed, epoch=epoch, batch_rows=64)
        return next(steps).rows.tolist()

    assert first(0, 0) == first(0, 0)
    assert first(0, 0) != first(1, 0)
    assert first(0, 0) != first(0, 1)


def test_shuffling_refuses_what_makes_no_sense(reader: RecordingReader) -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        reader.shuffled(SITES, seed=0, epoch=0, batch_rows=0)
    with pytest.raises(InvalidInput, match="rank 2"):
        reader.shuffled(SITES, seed=0, epoch=0, batch_rows=1, rank=2, world=2)
    with pytest.raises(ShapeError, match="keep"):
        reader.shuffled(SITES, seed=0, epoch=0, batch_rows=1, keep=np.ones(3, np.bool_))
    with pytest.raises(NotFound, match="nope"):
        reader.shuffled(["nope"], seed=0, epoch=0, batch_rows=1)
    with pytest.raises(InvalidInput, match="start_step"):
        reader.shuffled(SITES, seed=0, epoch=0, batch_rows=1, start_step=-1)


def test_a_batch_larger_than_the_recording_gives_no_step(reader: RecordingReader) -> None:
    size = reader.rows + 1
    assert list(reader.shuffled(SITES, seed=0, epoch=0, batch_rows=size)) == []
    assert reader.steps_per_epoch(size) == 0


@pytest.mark.parametrize("mapped", [True, False])
def test_workers_that_take_turns_at_steps_read_them_all(
    reader: RecordingReader, mapped: bool
) -> None:
    whole = list(reader.shuffled(SITES, seed=3, epoch=1, batch_rows=64, window_rows=200))
    for worker in range(3):
        part = list(
            reader.shuffled(
                SITES,
                seed=3,
                epoch=1,
                batch_rows=64,
                window_rows=200,
                start_step=1 + worker,
                every=3,
                mapped=mapped,
            )
        )
        wanted = whole[1 + worker :: 3]
        assert [batch.step for batch in part] == [batch.step for batch in wanted]
        for one, other in zip(part, wanted, strict=True):
            np.testing.assert_array_equal(one.rows, other.rows)
            assert one.sites[SITES[0]].tobytes() == other.sites[SITES[0]].tobytes()


@pytest.mark.parametrize("lanes", [1, 2])
def test_rows_of_one_lane_and_of_two_are_those_that_are_named(tmp_path: Path, lanes: int) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=12 << 10)
        for first in range(1, 20 * lanes, 20):
            with recording.open_lane() as lane:
                lane.append([sample_batch(SPEC, "p", first + i) for i in range(20)])
        reader = recording.reader()
        whole = {site: reader.read(site, 0, reader.rows) for site in SITES}
        for batch in reader.shuffled(SITES, seed=0, epoch=0, batch_rows=32, mapped=True):
            for site in SITES:
                assert batch.sites[site].tobytes() == whole[site][batch.rows].tobytes()


def test_all_steps_of_a_window_are_read_together(tmp_path: Path) -> None:
    class Counted(FileSystem):
        reads = 0

        def read_into(self, descriptor: int, buffer: NDArray[np.uint8], offset: int) -> None:
            self.reads += 1
            super().read_into(descriptor, buffer, offset)

    files = Counted()
    with Store.open(tmp_path, files=files) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=12 << 10)
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1 + i) for i in range(60)])
        reader, counts = recording.reader(), list[int]()
        for batch_rows in (8, 64):
            before = files.reads
            read = reader.shuffled(
                SITES, seed=0, epoch=0, batch_rows=batch_rows, window_rows=reader.rows, mapped=False
            )
            assert sum(len(batch.rows) for batch in read) > reader.rows - batch_rows
            counts.append(files.reads - before)
    assert max(counts) <= 4 * len(SITES), "a lane of 1,462 pieces is read in a few"
