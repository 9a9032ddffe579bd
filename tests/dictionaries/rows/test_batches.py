import threading
from collections.abc import Callable
from contextlib import closing

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from isogloss.dictionaries import (
    Source,
    held_out_batches,
    join_rows,
    training_batches,
    training_rows,
)
from isogloss.dictionaries.rows.batches import as_tensor, joined_batches, spread
from isogloss.errors import InvalidInput, NonFiniteRows
from isogloss.store import RecordingReader

SITE = "encoder.layer.3"

Record = Callable[..., RecordingReader]


@pytest.fixture
def numbered(record: Record) -> RecordingReader:
    """Rows that hold their own number in column 0: 3,000 of width 2."""
    rows = np.stack([np.arange(3000.0), np.ones(3000)], axis=1).astype(np.float32)
    return record(rows, dtype="float32")


def _numbers(reader: RecordingReader, start: int, stop: int, depth: int) -> list[list[int]]:
    keep = training_rows(reader, 0.25)
    batches = training_batches(
        reader,
        [SITE],
        seed=7,
        batch_rows=256,
        keep=keep,
        start_step=start,
        stop_step=stop,
        depth=depth,
    )
    with closing(batches):
        return [batch.rows[:, 0].int().tolist() for batch in batches]


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_a_tensor_has_the_values_of_the_array_it_views(dtype: type):
    array = np.linspace(-3, 3, 24).reshape(4, 6).astype(dtype)
    tensor = as_tensor(array)
    np.testing.assert_array_equal(tensor.float().numpy(), array.astype(np.float32))
    assert str(tensor.dtype).removeprefix("torch.") == array.dtype.name
    array[0, 0] = 2
    assert tensor[0, 0] == 2


def test_an_array_that_is_read_only_or_strided_is_copied():
    array = np.ones((4, 6), dtype=np.float32)
    array.flags.writeable = False
    as_tensor(array)[0, 0] = 5
    assert array[0, 0] == 1
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(as_tensor(wide[:, ::2]).numpy(), wide[:, ::2])


def test_held_out_documents_are_whole_and_the_rest_is_trained_on(numbered: RecordingReader):
    keep = training_rows(numbered, 0.25)
    documents = numbered.tokens().document
    for key, document in numbered.documents().items():
        assert set(keep[documents == key].tolist()) == {document.split_position >= 0.25}
    assert 0.5 < keep.mean() < 0.95
    assert training_rows(numbered, 0.0).all()
    assert not training_rows(numbered, 1.0).any()
    with pytest.raises(InvalidInput, match=r"holdout is 1\.5"):
        training_rows(numbered, 1.5)


def test_training_never_sees_a_held_out_row_and_an_epoch_no_row_twice(numbered: RecordingReader):
    keep = training_rows(numbered, 0.25)
    per_epoch = numbered.steps_per_epoch(256, keep=keep)
    seen = [row for batch in _numbers(numbered, 0, per_epoch, depth=2) for row in batch]
    assert keep[seen].all()
    assert len(set(seen)) == len(seen) == per_epoch * 256
    held_out = torch.cat(list(held_out_batches(numbered, SITE, holdout=0.25, batch_rows=100)))
    assert held_out[:, 0].int().tolist() == np.flatnonzero(~keep).tolist()


def test_epochs_come_in_different_orders(numbered: RecordingReader):
    per_epoch = numbered.steps_per_epoch(256, keep=training_rows(numbered, 0.25))
    first, second = (
        _numbers(numbered, start, start + per_epoch, depth=1) for start in (0, per_epoch)
    )
    assert first != second


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_the_order_is_the_same_from_any_step_at_any_depth(numbered: RecordingReader, depth: int):
    whole = _numbers(numbered, 0, 25, depth=2)
    assert len(whole) == 25
    for start in (0, 1, 7, 24):
        assert _numbers(numbered, start, 25, depth) == whole[start:]


def test_batches_are_float32_and_scaled(numbered: RecordingReader):
    keep = training_rows(numbered, 0.0)
    with closing(
        training_batches(
            numbered, [SITE], seed=0, batch_rows=64, keep=keep, start_step=3, stop_step=4, scale=0.5
        )
    ) as batches:
        (batch,) = batches
    assert (batch.step, batch.rows.dtype) == (3, torch.float32)
    assert batch.rows[:, 1].tolist() == [0.5] * 64


def test_closing_early_ends_the_thread(numbered: RecordingReader):
    keep = training_rows(numbered, 0.0)
    batches = training_batches(
        numbered, [SITE], seed=0, batch_rows=64, keep=keep, start_step=0, stop_step=10_000
    )
    next(batches)
    assert [t for t in threading.enumerate() if t.name == "isogloss-rows"]
    batches.close()
    assert not [t for t in threading.enumerate() if t.name == "isogloss-rows"]


@pytest.mark.parametrize("depth", [0, 2])
def test_a_row_that_is_not_finite_is_named(record: Record, depth: int):
    rows = np.ones((500, 4), dtype=np.float32)
    rows[321, 2] = np.inf
    reader = record(rows)
    batches = training_batches(
        reader,
        [SITE],
        seed=0,
        batch_rows=100,
        keep=np.ones(500, dtype=np.bool_),
        start_step=0,
        stop_step=5,
        depth=depth,
    )
    with closing(batches), pytest.raises(NonFiniteRows, match="row 321"):
        list(batches)


def test_rows_that_are_not_finite_are_counted_and_left_out_by_wish(record: Record):
    rows = np.random.default_rng(1).standard_normal((500, 4)).astype(np.float32)
    rows[[3, 321, 400], 2] = np.nan
    joined = join_rows([Source(reader=record(rows), site=SITE)])

    def batches(*, finite_only: bool):
        return joined_batches(
            joined,
            scales=[1.0],
            seed=0,
            batch_rows=500,
            keep=np.ones(500, dtype=np.bool_),
            start_step=0,
            stop_step=1,
            finite_only=finite_only,
            depth=0,
        )

    with pytest.raises(NonFiniteRows, match=r"as do 2 others of 500; .*leave_out\.non_finite"):
        list(batches(finite_only=False))
    (found,) = batches(finite_only=True)
    assert (len(found.rows), found.left_out, found.usual) == (497, 3, None)
    assert bool(torch.isfinite(found.rows).all())


def test_too_few_rows_for_a_batch_are_refused(numbered: RecordingReader):
    keep = np.zeros(3000, dtype=np.bool_)
    keep[:99] = True
    with pytest.raises(InvalidInput, match=r"99 training rows.*100"):
        training_batches(
            numbered, [SITE], seed=0, batch_rows=100, keep=keep, start_step=0, stop_step=1
        )


def test_a_sample_of_rows_is_spread_evenly():
    rows: NDArray[np.int64] = np.arange(1000, dtype=np.int64) * 3
    assert spread(rows, 4).tolist() == [0, 750, 1500, 2250]
    assert spread(rows, 1000).tolist() == rows.tolist()


def test_held_out_rows_can_be_sampled(numbered: RecordingReader):
    batches = list(held_out_batches(numbered, SITE, holdout=0.5, batch_rows=64, max_rows=100))
    assert [len(batch) for batch in batches] == [64, 36]


def test_the_columns_of_several_sites_lie_side_by_side(numbered: RecordingReader):
    keep = np.ones(3000, dtype=np.bool_)
    with closing(
        training_batches(
            numbered, [SITE, SITE], seed=0, batch_rows=64, keep=keep, start_step=0, stop_step=1
        )
    ) as batches:
        (batch,) = batches
    assert batch.rows.shape == (64, 4)
    assert batch.rows[:, :2].tolist() == batch.rows[:, 2:].tolist()


def test_rows_of_several_training_steps_are_read_only_by_wish(record: Record) -> None:
    rows = np.arange(3000, dtype=np.float32).repeat(4).reshape(3000, 4)
    reader = record(rows, "float32", steps=(0, 30))
    with pytest.raises(InvalidInput, match=r"2 training steps \(0: 3,000 rows, 30: 3,000 rows\)"):
        training_rows(reader, 0.5)
    with pytest.raises(InvalidInput, match=r"say which to read, such as steps=\[30\]"):
        list(held_out_batches(reader, SITE, holdout=0.5))
    with pytest.raises(InvalidInput, match="no rows of training step 31; it has 0: 3,000 rows"):
        training_rows(reader, 0.5, steps=[30, 31])
    one, other, both = (training_rows(reader, 0.5, steps=s) for s in ([0], [30], [30, 0]))
    assert not one[3000:].any()
    assert not other[:3000].any()
    assert np.array_equal(one[:3000], other[3000:])
    assert np.array_equal(both, one | other)
    held_out = torch.cat(list(held_out_batches(reader, SITE, holdout=0.5, steps=[30])))
    assert len(held_out) == 3000 - one.sum()


def test_the_only_training_step_needs_no_name(record: Record) -> None:
    rows = np.arange(3000, dtype=np.float32).repeat(4).reshape(3000, 4)
    reader = record(rows, "float32", steps=(30,))
    assert np.array_equal(training_rows(reader, 0.5), training_rows(reader, 0.5, steps=[30]))
