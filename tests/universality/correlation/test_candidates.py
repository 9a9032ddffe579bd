"""The strongest partners of either feature, against all correlations of dense codes."""

import numpy as np
import pytest
import scipy.sparse as sp

from isogloss.universality.correlation.candidates import best_candidates, strongest_of_row
from isogloss.universality.testing.dense import dense_codes, dense_correlations


@pytest.mark.parametrize("block_entries", [1, 200, 1 << 22])
def test_candidates_are_the_strongest_of_either_feature_whatever_the_blocks(
    block_entries: int,
) -> None:
    a, b = dense_codes(1, features=30), dense_codes(2, features=21)
    b[:, :5] = a[:, :5] + 0.1 * b[:, :5]
    r = dense_correlations(a, b)
    found = best_candidates(
        sp.csr_array(a.T), sp.csr_array(b), 3, block_entries=block_entries
    ).toarray()
    of_a = np.argsort(-r, axis=1)[:, :3]
    of_b = np.argsort(-r, axis=0)[:3]
    wanted = np.zeros(r.shape, bool)
    np.put_along_axis(wanted, of_a, True, axis=1)
    np.put_along_axis(wanted, of_b, True, axis=0)
    wanted &= r > 0
    np.testing.assert_array_equal(found > 0, wanted)
    np.testing.assert_allclose(found[wanted], r[wanted], atol=1e-12)


def test_the_strongest_of_a_row_come_first_and_ties_go_to_the_lowest() -> None:
    matrix = sp.csr_array(np.array([[0.2, 0.5, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0], [0, 0, 0, 0.1]]))
    found = strongest_of_row(matrix, 3)
    assert found.tolist() == [[1, 2, 0], [-1, -1, -1], [3, -1, -1]]
