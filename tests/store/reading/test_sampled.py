"""Sampled batches hold the rows they name; each unit comes once, resumed, shared or parted."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, NotFound, ShapeError
from isogloss.store import RecordingReader, SampledBatch, Sampling, Store, StratumShares
from isogloss.store.testing import sample_batch, sample_spec

SITES = ("layer.1/out", "layer.2")
SPEC = sample_spec()
SAMPLINGS = {
    "rows": Sampling(),
    "windows": Sampling.windows(4),
    "overlapping": Sampling.windows(5, stride=2),
    "pairs": Sampling.pairs(),
    "distant": Sampling.pairs(3),
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingReader]:
    """Three lanes of small shards, 60 documents of 1 to 40 rows; the last lane is live."""
    with Store.open(tmp_path_factory.mktemp("sampled")) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=12 << 10)
        for first in (1, 21, 41):
            lane = recording.open_lane()
            lane.append([sample_batch(SPEC, "p", first + i) for i in range(20)])
            if first < 41:
                lane.close()
            recording.derive()
        yield recording.reader()


def epoch(
    reader: RecordingReader, sampling: Sampling, keep: NDArray[np.bool_] | None = None
) -> list[SampledBatch]:
    plan = reader.sampled(sampling, keep=keep)
    return list(plan.batches(SITES, seed=1, epoch=0, batch_units=1, window_rows=64))


@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("mapped", [True, False])
def test_an_epoch_has_each_unit_once_with_its_own_activations(
    reader: RecordingReader, name: str, mapped: bool
) -> None:
    sampling = SAMPLINGS[name]
    plan = reader.sampled(sampling)
    size = 7
    steps = list(
        plan.batches(
            SITES, seed=1, epoch=2, batch_units=size, window_rows=128, block_rows=8, mapped=mapped
        )
    )
    assert [batch.step for batch in steps] == list(range(plan.steps_per_epoch(size)))
    units = np.concatenate([batch.rows for batch in steps])
    assert units.shape == (plan.units // size * size, sampling.length)
    assert len(np.unique(units, axis=0)) == len(units)
    columns = reader.tokens()
    assert (columns.document[units] == columns.document[units[:, :1]]).all()
    steps_between = np.diff(columns.position[units].astype(int), axis=1)
    assert (steps_between == sampling.distance).all()
    for site in SITES:
        whole = reader.read(site, 0, reader.rows)
        for batch in steps:
            assert batch.sites[site].tobytes() == whole[batch.rows].tobytes()


def test_all_pairs_of_all_documents_are_there(reader: RecordingReader) -> None:
    for distance in (1, 3, 39):
        found = np.concatenate([b.rows for b in epoch(reader, Sampling.pairs(distance))])
        document = reader.tokens().document
        first = np.arange(reader.rows - distance)
        wanted = first[document[first] == document[first + distance]]
        assert sorted(found[:, 0].tolist()) == wanted.tolist()
        np.testing.assert_array_equal(found[:, 1], found[:, 0] + distance)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("start", [0, 1, 5])
def test_sampling_resumed_at_a_step_gives_the_same_remaining_batches(
    reader: RecordingReader, start: int, weighted: bool
) -> None:
    strata = StratumShares(column="position", shares={0: 1.0, 4: 1.0}) if weighted else None
    plan = reader.sampled(Sampling.pairs(strata=strata))
    whole = list(plan.batches(SITES, seed=3, epoch=1, batch_units=50, window_rows=200))
    again = reader.sampled(Sampling.pairs(strata=strata)).batches(
        SITES, seed=3, epoch=1, batch_units=50, window_rows=200, start_step=start, mapped=False
    )
    for one, other in zip(whole[start:], again, strict=True):
        assert one.step == other.step
        np.testing.assert_array_equal(one.rows, other.rows)
        assert one.sites[SITES[0]].tobytes() == other.sites[SITES[0]].tobytes()


@pytest.mark.parametrize("weighted", [False, True])
def test_ranks_and_workers_share_each_step_without_talking(
    reader: RecordingReader, weighted: bool
) -> None:
    weights = np.linspace(0, 2, reader.rows) if weighted else None
    plan = reader.sampled(Sampling.windows(3, weights=weights))

    def units(batch_units: int, rank: int = 0, world: int = 1, start: int = 0, every: int = 1):
        return plan.batches(
            SITES[:1],
            seed=5,
            epoch=0,
            batch_units=batch_units,
            window_rows=96,
            rank=rank,
            world=world,
            start_step=start,
            every=every,
        )

    alone = [batch.rows for batch in units(20)]
    shares = [[batch.rows for batch in units(10, rank, 2)] for rank in range(2)]
    assert len(alone) == plan.steps_per_epoch(10, world=2)
    for whole, *parts in zip(alone, *shares, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    workers = [list(units(20, start=2 + worker, every=3)) for worker in range(3)]
    together = sorted((b for found in workers for b in found), key=lambda batch: batch.step)
    assert [batch.step for batch in together] == list(range(2, len(alone)))
    for batch, whole in zip(together, alone[2:], strict=True):
        np.testing.assert_array_equal(batch.rows, whole)


def test_units_have_kept_rows_only(reader: RecordingReader) -> None:
    position = np.asarray(reader.tokens().position, np.int64)
    keep = position >= 2
    found = np.concatenate([batch.rows for batch in epoch(reader, Sampling.windows(4), keep)])
    assert (position[found[:, 0]] % 4 == 2).all()
    assert keep[found].all()
    with pytest.raises(ShapeError, match="keep"):
        reader.sampled(Sampling(), keep=np.ones(3, np.bool_))


def test_groups_of_documents_have_their_shares(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Store.open(tmp_path_factory.mktemp("groups")) as store:
        recording = store.create_recording(SPEC, ["a"])
        lane = recording.open_lane()
        lane.append([sample_batch(SPEC, "p", i, 40) for i in range(1, 41)])
        lane.append([sample_batch(SPEC, "q", i, 40) for i in range(1, 11)])
        reader = recording.reader()
        plan = reader.sampled(
            Sampling(strata=StratumShares(column="group", shares={"p": 1.0, "q": 1.0}))
        )
        rows = np.concatenate(
            [b.rows for b in plan.batches(SITES, seed=0, epoch=0, batch_units=20)]
        )
        assert len(rows) == reader.rows == 2000
        # the pieces of the two groups meet once, at the middle of the line
        assert abs(int((rows < 1600).sum()) - 1000) <= 1


def test_sampling_refuses_what_makes_no_sense(reader: RecordingReader) -> None:
    plan = reader.sampled(Sampling())
    with pytest.raises(InvalidInput, match="window_rows 0"):
        plan.batches(SITES, seed=0, epoch=0, batch_units=1, window_rows=0)
    with pytest.raises(InvalidInput, match="at least 1"):
        plan.batches(SITES, seed=0, epoch=0, batch_units=0)
    with pytest.raises(InvalidInput, match="every 0"):
        plan.batches(SITES, seed=0, epoch=0, batch_units=1, every=0)
    with pytest.raises(NotFound, match="nope"):
        plan.batches(["nope"], seed=0, epoch=0, batch_units=1)
    assert reader.sampled(Sampling.pairs(40)).units == 0
    nothing = reader.sampled(Sampling.pairs(40))
    assert list(nothing.batches(SITES, seed=0, epoch=0, batch_units=1)) == []
