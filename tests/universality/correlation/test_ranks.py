"""Ranks count the partners that correlate more."""

import numpy as np
import pytest
import scipy.sparse as sp

from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.correlation.ranks import pair_ranks
from isogloss.universality.testing.dense import dense_codes, dense_correlations


@pytest.mark.parametrize("block_entries", [1, 200, 1 << 20])
def test_ranks_equal_those_of_the_dense_matrix(block_entries: int) -> None:
    a, b = dense_codes(0), dense_codes(1, features=25)
    r = dense_correlations(a, b)
    random = np.random.default_rng(2)
    of_a, of_b = random.permutation(30)[:20], random.permutation(25)[:20]
    major = sp.csr_array(a.T)
    exact = pair_statistics(major, sp.csr_array(b.T), of_a, of_b).r
    found = pair_ranks(major, sp.csr_array(b), of_a, of_b, exact, block_entries=block_entries)
    for n, (i, j) in enumerate(zip(of_a, of_b, strict=True)):
        higher = max(r[i, j], 0) + 1e-12  # only positive correlations are stored
        if r[i, j] > 0:
            assert found.of_b[n] == 1 + (r[i] > higher).sum()
            assert found.of_a[n] == 1 + (r[:, j] > higher).sum()


def test_equal_partners_share_a_rank() -> None:
    a = dense_codes(3, features=2)
    b = np.hstack([a, a])
    each = np.arange(2)
    r = pair_statistics(sp.csr_array(a.T), sp.csr_array(b.T), each, each).r
    found = pair_ranks(sp.csr_array(a.T), sp.csr_array(b), each, each, r)
    assert found.of_b.tolist() == [1, 1]
    assert found.of_a.tolist() == [1, 1]


def test_of_no_pairs_there_are_no_ranks_and_all_features_may_be_in_pairs() -> None:
    a, b = dense_codes(0, features=6), dense_codes(1, features=6)
    major, none = sp.csr_array(a.T), np.zeros(0, np.int32)
    assert not len(pair_ranks(major, sp.csr_array(b), none, none, np.zeros(0)).of_a)
    each, r = np.arange(6), dense_correlations(a, b)
    found = pair_ranks(major, sp.csr_array(b), each, each, np.diag(r))
    wanted = [1 + int((r[n] > max(r[n, n], 0) + 1e-12).sum()) for n in range(6) if r[n, n] > 0]
    assert [int(found.of_b[n]) for n in range(6) if r[n, n] > 0] == wanted
