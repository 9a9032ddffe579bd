import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import InvalidInput, NoSharedDocuments, NotFound, ShapeError
from isogloss.store import (
    Document,
    Recording,
    RecordingReader,
    SiteSpec,
    Store,
    shared_documents,
)
from isogloss.store.lanes.statistics import SiteStatistics, measure
from isogloss.store.reading.shuffle_order import ShuffleOrder
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


@pytest.mark.parametrize("site", SITES)
def test_ranges_and_single_rows_agree_with_what_was_written(
    reader: RecordingReader, site: str
) -> None:
    rows = wanted(site)
    assert reader.rows == len(rows)
    for start, stop in [(0, 0), (0, len(rows)), (5, 6), (100, 900), (len(rows), len(rows))]:
        assert reader.read(site, start, stop).tobytes() == rows[start:stop].tobytes()
    chosen = np.random.default_rng(0).integers(0, len(rows), 500)
    assert reader.take(site, chosen).tobytes() == rows[chosen].tobytes()
    assert reader.take(site, np.empty(0, np.int64)).shape == (0, rows.shape[1])


def test_rows_outside_the_revision_are_refused(reader: RecordingReader) -> None:
    for start, stop in [(-1, 2), (0, reader.rows + 1), (5, 4)]:
        with pytest.raises(ShapeError, match="must lie in"):
            reader.read(SITES[0], start, stop)
        with pytest.raises(ShapeError, match="must lie in"):
            reader.tokens(start, stop)
    for row in (-1, reader.rows):
        with pytest.raises(ShapeError, match="must lie in"):
            reader.take(SITES[0], np.array([row]))
    with pytest.raises(NotFound, match="layer"):
        reader.read("nope", 0, 1)


def test_token_columns_are_the_same_from_log_and_from_files(
    recording: Recording, reader: RecordingReader
) -> None:
    batches = [sample_batch(SPEC, "p", i) for i in range(1, 61)]
    columns = reader.tokens()
    for name in ("token_id", "document", "position", "span"):
        want = np.concatenate([getattr(batch.columns, name) for batch in batches])
        np.testing.assert_array_equal(getattr(columns, name), want)
    part = reader.tokens(300, 700)
    np.testing.assert_array_equal(part.token_id, columns.token_id[300:700])
    assert recording.reader().documents() == {b.documents[0].id: b.documents[0] for b in batches}


def test_the_rows_of_a_document_are_found(reader: RecordingReader) -> None:
    batch = sample_batch(SPEC, "p", 30)
    before = sum(sample_batch(SPEC, "p", i).rows for i in range(1, 30))
    rows = reader.document_rows(batch.documents[0].id)
    assert rows.tolist() == list(range(before, before + batch.rows))
    assert reader.document_rows(1).size == 0


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


def test_the_order_is_the_same_in_every_release() -> None:
    order = ShuffleOrder(
        rows=None, count=100, seed=7, epoch=2, batch_rows=10, block_rows=4, window_rows=16
    )
    place, rows = next(order.windows(0))
    assert place == 0
    assert rows.tolist() == FIRST_WINDOW


FIRST_WINDOW = [39, 1, 38, 12, 13, 22, 21, 37, 36, 2, 20, 15, 0, 23, 3, 14]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 400),
    st.integers(1, 9),
    st.integers(1, 60),
    st.integers(0, 3),
)
def test_windows_tile_the_epoch_for_any_sizes(
    count: int, block: int, window: int, seed: int
) -> None:
    order = ShuffleOrder(
        rows=None,
        count=count,
        seed=seed,
        epoch=0,
        batch_rows=1,
        block_rows=block,
        window_rows=window,
    )
    following, seen = 0, []
    for place, rows in order.windows(0):
        assert place == following
        following += len(rows)
        seen.append(rows)
    assert np.array_equal(np.sort(np.concatenate([np.empty(0, np.int64), *seen])), np.arange(count))
    for first in (1, count // 2, count - 1):
        if 0 <= first < count:
            place, rows = next(order.windows(first))
            assert place <= first < place + len(rows)


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


def test_shared_documents_are_those_that_all_have_rows_of(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        readers: dict[str, RecordingReader] = {}
        for name, numbers in (("one", (1, 2, 3)), ("two", (2, 3, 4)), ("three", (8,))):
            spec = sample_spec(name)
            recording = store.create_recording(spec, [])
            with recording.open_lane() as lane:
                for sequence, number in enumerate(numbers, 1):
                    batch = sample_batch(spec, "p", number)
                    lane.append([dataclasses.replace(batch, sequence=sequence)])
            readers[name] = recording.reader()
        two = {name: readers[name] for name in ("one", "two")}
        ids = sorted(sample_batch(SPEC, "p", n).documents[0].id for n in (2, 3))
        assert shared_documents(two) == tuple(ids)
        with pytest.raises(NoSharedDocuments, match="one corpus"):
            shared_documents(readers)
        with pytest.raises(InvalidInput, match="no recordings"):
            shared_documents({})


@pytest.mark.parametrize("site", SITES)
def test_statistics_agree_with_numpy(recording: Recording, site: str) -> None:
    values = wanted(site).astype(np.float64)
    for found in (recording.statistics(site), recording.statistics(site)):
        assert (found.count, found.nonfinite) == (len(values), 0)
        np.testing.assert_allclose(found.mean, values.mean(0), atol=1e-6)
        np.testing.assert_allclose(found.m2, ((values - values.mean(0)) ** 2).sum(0), rtol=2e-6)
        norms = np.linalg.norm(values, axis=1)
        np.testing.assert_allclose([found.norm_mean, found.norm_max], [norms.mean(), norms.max()])
        np.testing.assert_allclose(found.variance, values.var(0).sum(), rtol=2e-6)
        assert found.revision == recording.revision().id


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rows_that_are_not_finite_are_counted_and_left_out(dtype: str) -> None:
    site = SiteSpec.from_dict({"name": "s", "width": 7, "dtype": dtype})
    values = np.random.default_rng(0).normal(3, 2, (1500, 7)).astype(site.numpy_dtype)
    values[3, 1], values[1400, 6] = np.nan, np.inf
    found = measure([values[:700], values[700:]], 7)
    good = np.delete(values, [3, 1400], axis=0).astype(np.float64)
    assert (found.count, found.nonfinite) == (1498, 2)
    np.testing.assert_allclose(found.mean, good.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.m2, good.var(0) * len(good), rtol=2e-6)
    assert measure([values[3:4]], 7).count == 0


def test_statistics_of_a_far_off_mean_lose_nothing() -> None:
    values = (1e4 + np.random.default_rng(0).normal(0, 1, (4000, 3))).astype(np.float32)
    found = measure([values], 3)
    np.testing.assert_allclose(found.m2 / found.count, values.astype(np.float64).var(0), rtol=2e-6)
    with pytest.raises(ShapeError, match="widths"):
        found.merge(SiteStatistics.empty(4))


def test_statistics_follow_a_mean_that_wanders_and_do_not_depend_on_ordinary_neighbours() -> None:
    chance = np.random.default_rng(0)
    drift = np.linspace(0, 300, 20_000)[:, None]
    values = (drift + chance.normal(0, 1, (20_000, 5))).astype(np.float32)
    values[7], values[5000, 2], values[9999, 0] = 1e25, np.inf, np.nan
    good = values[np.isfinite(values).all(1)].astype(np.float64)
    for blocks in ([values], [values[:1], values[1:4097], values[4097:4098], values[4098:]]):
        found = measure(blocks, 5)
        assert (found.count, found.nonfinite) == (19_998, 2)
        np.testing.assert_allclose(found.mean, good.mean(0), rtol=1e-6)
        np.testing.assert_allclose(found.m2, good.var(0) * len(good), rtol=2e-6)
    without = np.delete(good, 7, axis=0)
    found = measure([without.astype(np.float32)], 5)
    np.testing.assert_allclose(found.m2, without.var(0) * len(without), rtol=2e-6)
    norms = np.linalg.norm(without, axis=1)
    np.testing.assert_allclose([found.norm_mean, found.norm_max], [norms.mean(), norms.max()])


def test_statistics_of_huge_numbers_do_not_overflow() -> None:
    values = np.random.default_rng(0).normal(0, 1e30, (100, 3)).astype(np.float32)
    found = measure([values], 3)
    assert found.count == 100
    np.testing.assert_allclose(found.m2 / 100, values.astype(np.float64).var(0), rtol=1e-9)


def test_documents_without_text_are_read_back(tmp_path: Path) -> None:
    document = Document.from_token_ids([1, 2, 3], group="g")
    batch = sample_batch(SPEC, "p", 1)
    batch = dataclasses.replace(
        batch, documents=(document,), document=np.full(batch.rows, document.id, np.uint64)
    )
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, [])
        with recording.open_lane() as lane:
            lane.append([batch])
            assert recording.reader().documents() == {document.id: document}
        recording.derive()
        assert recording.reader().documents() == {document.id: document}
