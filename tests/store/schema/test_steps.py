"""Training steps of rows: numbers, columns and runs of one step."""

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import InvalidInput
from isogloss.store.schema.steps import (
    MAX_STEP,
    StepRuns,
    check_step,
    check_steps,
    has_one_step,
    join_steps,
    merge_runs,
    no_steps,
    one_step,
    step_column,
    step_runs,
)

STEPS = st.sampled_from([0, 1, 7, MAX_STEP])
RUNS = st.lists(st.tuples(STEPS, st.integers(0, 5)), max_size=8)


def expanded(runs: list[tuple[int, int]]) -> list[int]:
    return [step for step, rows in runs for _ in range(rows)]


@pytest.mark.parametrize("given", [7, np.int64(7), np.uint8(7), np.array(7)])
def test_whole_numbers_of_every_type_are_steps(given: object) -> None:
    assert (type(check_step(given)), check_step(given)) == (int, 7)


def test_the_bounds_of_64_bits_are_steps() -> None:
    assert (check_step(0), check_step(MAX_STEP)) == (0, 2**64 - 1)


@pytest.mark.parametrize("given", [-1, 1 << 64, 1.0, "1", None, True, np.array([1, 2])])
def test_anything_else_is_refused_with_what_is_wanted(given: object) -> None:
    with pytest.raises(InvalidInput, match=r"step is .*wanted a whole number in \[0, 2\*\*64\)"):
        check_step(given)


def test_a_choice_of_steps_names_at_least_one() -> None:
    assert check_steps([np.uint64(3), 1]) == (3, 1)
    with pytest.raises(InvalidInput, match="None for all"):
        check_steps([])


@given(RUNS)
def test_a_column_and_its_runs_say_the_same(runs: list[tuple[int, int]]) -> None:
    column = step_column(runs)
    assert (column.dtype, column.tolist()) == (np.uint64, expanded(runs))
    assert step_runs(column) == step_runs(column.copy()) == merge_runs(runs)
    assert all(rows > 0 for _, rows in merge_runs(runs))


@given(RUNS, st.integers(0, 40), st.integers(0, 40))
def test_a_slice_of_runs_is_that_of_their_rows(
    runs: list[tuple[int, int]], start: int, stop: int
) -> None:
    start, stop = (min(at, len(expanded(runs))) for at in sorted((start, stop)))
    assert expanded(StepRuns(runs).slice(start, stop)) == expanded(runs)[start:stop]


@given(RUNS, st.lists(st.integers(0, 5), max_size=4))
def test_columns_are_joined_in_order(runs: list[tuple[int, int]], sizes: list[int]) -> None:
    column = step_column(runs)
    ends = [min(end, len(column)) for end in accumulate(sizes)]
    parts = [column[a:b] for a, b in zip([0, *ends], [*ends, len(column)], strict=True)]
    assert join_steps(parts).tolist() == expanded(runs)
    assert join_steps(parts).dtype == np.uint64


def test_rows_of_one_step_take_no_memory() -> None:
    column = one_step(9, 1_000_000)
    joined = join_steps([column, column[5:]])
    for found in (column, joined, step_column([(9, 10), (9, 10)])):
        assert has_one_step(found)
        assert found.strides == (0,)
    assert joined.shape == (1_999_995,)
    assert not has_one_step(join_steps([column, one_step(8, 2)]))


def test_a_column_of_one_step_is_made_once_and_cannot_be_changed() -> None:
    assert one_step(4, 10) is one_step(4, 10)
    with pytest.raises(ValueError, match="read-only"):
        one_step(4, 10)[0] = 5
    assert one_step(0, 0) is not no_steps(), "that one stands for zeros of any length"


def test_one_row_or_none_holds_one_step_and_two_may_hold_two() -> None:
    assert [has_one_step(np.zeros(rows, np.uint64)) for rows in (0, 1)] == [True, True]
    assert not has_one_step(np.array([0, 1], np.uint64))
