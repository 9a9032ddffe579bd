"""One-to-one assignment: no feature twice, the largest sum, dense and sparse alike."""

from itertools import permutations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import InvalidInput
from isogloss.universality.correlation.assignment import assign


def _scores(seed: int, rows: int, columns: int, density: float) -> sp.csr_array:
    random = np.random.default_rng(seed)
    kept = random.random((rows, columns)) < density
    return sp.csr_array(np.where(kept, random.uniform(0.01, 1.0, (rows, columns)), 0.0))


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    density=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_dense_and_sparse_reach_one_sum_and_use_no_feature_twice(
    seed: int, rows: int, columns: int, density: float
) -> None:
    scores = _scores(seed, rows, columns, density)
    dense, sparse = assign(scores), assign(scores, dense_features=0)
    assert dense.score.sum() == pytest.approx(sparse.score.sum(), abs=1e-9)
    for found in (dense, sparse):
        assert len(set(found.of_a.tolist())) == len(found.of_a)
        assert len(set(found.of_b.tolist())) == len(found.of_b)
        assert (found.score > 0).all()
        np.testing.assert_array_equal(found.score, scores.toarray()[found.of_a, found.of_b])


@pytest.mark.parametrize("dense_features", [0, 100])
def test_the_sum_is_the_largest_of_all_permutations(dense_features: int) -> None:
    scores = _scores(3, 6, 6, 1.0)
    dense = scores.toarray()
    best = max(dense[np.arange(6), list(order)].sum() for order in permutations(range(6)))
    assert assign(scores, dense_features=dense_features).score.sum() == pytest.approx(best)


@pytest.mark.parametrize("dense_features", [0, 100])
def test_a_feature_without_a_candidate_stays_alone(dense_features: int) -> None:
    scores = sp.csr_array(np.array([[0.4, 0.9], [0.0, 0.8], [0.0, 0.0]]))
    found = assign(scores, dense_features=dense_features)
    assert list(zip(found.of_a.tolist(), found.of_b.tolist(), strict=True)) == [(0, 0), (1, 1)]


def test_of_no_candidates_there_are_no_pairs() -> None:
    assert not len(assign(sp.csr_array((4, 3))).of_a)


@pytest.mark.parametrize("score", [-0.1, 1.5])
def test_a_score_out_of_range_is_refused(score: float) -> None:
    with pytest.raises(InvalidInput, match=r"wanted \(0, 1\]"):
        assign(sp.csr_array(np.array([[score]])))
