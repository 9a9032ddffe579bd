"""The units found are those that a search through all rows finds."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isogloss.store import Sampling, TokenColumns
from isogloss.store.reading.units import Units


def columns_of(rows: list[tuple[int, int]], cuts: list[int]) -> Iterator[TokenColumns]:
    """Token columns of rows given as (document, position), in pieces.

    Two documents in a row are one text at two training steps, whose rows are no neighbours.
    """
    whole = TokenColumns(
        token_id=np.zeros(len(rows), np.uint32),
        document=np.array([document // 2 for document, _ in rows], np.uint64),
        position=np.array([position for _, position in rows], np.uint32),
        span=None,
        step=np.array([document % 2 for document, _ in rows], np.uint64),
    )
    bounds = sorted({0, *(cut for cut in cuts if cut < len(rows)), len(rows)})
    for start, stop in itertools.pairwise(bounds):
        yield whole.slice(start, stop)


def searched(
    rows: list[tuple[int, int]], sampling: Sampling, keep: NDArray[np.bool_] | None
) -> set[tuple[int, ...]]:
    """All units, found the slow way, where no (document, position) is there twice."""
    at = {key: row for row, key in enumerate(rows) if keep is None or keep[row]}
    found: set[tuple[int, ...]] = set()
    for document in {document for document, _ in rows}:
        places = sorted(position for there, position in at if there == document)
        starts = [p for p in places if (document, p - 1) not in at]
        for start in starts:
            stop = next(p for p in itertools.count(start) if (document, p) not in at)
            for place in range(start, stop - sampling.span + 1, sampling.stride):
                steps = range(0, sampling.span, sampling.distance)
                found.add(tuple(at[document, place + i] for i in steps))
    return found


@st.composite
def parted(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Rows of up to six documents, each cut into runs, the runs in any order."""
    runs: list[list[tuple[int, int]]] = []
    for document in range(draw(st.integers(1, 6))):
        length, first = draw(st.integers(1, 12)), draw(st.integers(0, 2))
        cuts = sorted({0, length, *draw(st.lists(st.integers(0, length), max_size=2))})
        for start, stop in itertools.pairwise(cuts):
            runs.append([(document, first + place) for place in range(start, stop)])
    return [row for run in draw(st.permutations(runs)) for row in run]


@settings(max_examples=200, deadline=None)
@given(
    rows=parted(),
    cuts=st.lists(st.integers(1, 60), max_size=3),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4)),
    seed=st.none() | st.integers(0, 9),
)
def test_units_are_all_groups_of_one_document_each_once(
    rows: list[tuple[int, int]],
    cuts: list[int],
    shape: tuple[int, int, int],
    seed: int | None,
) -> None:
    length, distance, stride = shape
    sampling = Sampling(length=length, distance=distance, stride=stride)
    keep = None if seed is None else np.random.default_rng(seed).random(len(rows)) < 0.8
    units = Units.find(columns_of(rows, cuts), sampling, keep)
    found = units.rows(np.arange(units.count))
    assert found.shape == (units.count, length)
    assert len({tuple(unit) for unit in found.tolist()}) == units.count
    assert {tuple(unit) for unit in found.tolist()} == searched(rows, sampling, keep)
    firsts = np.concatenate([np.empty(0, np.int64), *units.first_rows()])
    np.testing.assert_array_equal(firsts, found[:, 0])


def test_a_document_that_is_there_twice_has_its_units_twice_and_none_across() -> None:
    rows = [(7, p) for p in range(5)] * 2
    units = Units.find(columns_of(rows, []), Sampling.pairs(2), None)
    found = units.rows(np.arange(units.count)).tolist()
    assert found == [[0, 2], [1, 3], [2, 4], [5, 7], [6, 8], [7, 9]]


def test_two_writers_that_take_turns_part_documents_and_no_unit_is_lost() -> None:
    rows = [(d, p) for p in range(0, 40, 10) for d in (1, 2) for p in range(p, p + 10)]
    units = Units.find(columns_of(rows, [13]), Sampling.windows(8, stride=1), None)
    found = units.rows(np.arange(units.count))
    assert units.count == 2 * 33
    for unit in found.tolist():
        assert len({rows[row][0] for row in unit}) == 1
        assert np.diff([rows[row][1] for row in unit]).tolist() == [1] * 7


@pytest.mark.parametrize("rows", [[], [(1, 0)]])
def test_too_few_rows_give_no_unit(rows: list[tuple[int, int]]) -> None:
    units = Units.find(columns_of(rows, []), Sampling.pairs(), None)
    assert units.count == 0
    assert units.rows(np.empty(0, np.int64)).shape == (0, 2)
