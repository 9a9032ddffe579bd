"""Known documents: rows counted per document and step."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import ShapeError
from isogloss.store.schema.known_documents import KnownDocuments
from isogloss.store.schema.steps import MAX_STEP, StepInfo

ROWS = st.lists(
    st.tuples(st.sampled_from([0, 1, MAX_STEP]), st.sampled_from([3, 4, (1 << 64) - 1]))
)


def counted(rows: list[tuple[int, int]]) -> KnownDocuments:
    return KnownDocuments.of_columns(
        np.array([document for _, document in rows], np.uint64),
        np.array([step for step, _ in rows], np.uint64),
    )


def pairs(known: KnownDocuments) -> list[tuple[tuple[int, int], int]]:
    keys = zip(known.step.tolist(), known.document.tolist(), strict=True)
    return list(zip(keys, known.rows.tolist(), strict=True))


@given(ROWS)
def test_every_pair_is_counted_once_in_order(rows: list[tuple[int, int]]) -> None:
    known = counted(rows)
    assert pairs(known) == sorted(Counter(rows).items())
    for step in (0, 1, 2, MAX_STEP):
        wanted = Counter(document for found, document in rows if found == step)
        assert known.at(step).by_document() == wanted
    assert known.by_document() == Counter(document for _, document in rows)


@given(ROWS, ROWS)
def test_merging_counts_as_if_all_rows_stood_in_one(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    merged = KnownDocuments.merge([counted(one), counted(other)])
    assert pairs(merged) == pairs(counted([*one, *other]))
    assert pairs(KnownDocuments.merge([])) == []


@given(ROWS)
def test_steps_are_listed_with_rows_and_documents(rows: list[tuple[int, int]]) -> None:
    wanted = [
        StepInfo(
            step=step,
            rows=sum(found == step for found, _ in rows),
            documents=len({document for found, document in rows if found == step}),
        )
        for step in sorted({step for step, _ in rows})
    ]
    assert list(counted(rows).steps()) == wanted


def test_columns_of_different_lengths_are_refused() -> None:
    one, two = np.zeros(1, np.uint64), np.zeros(2, np.uint64)
    with pytest.raises(ShapeError, match="1 documents, 2 steps"):
        KnownDocuments(document=one, step=two, rows=np.zeros(2, np.int64))
