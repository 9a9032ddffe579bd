"""Compressed codes are logarithms of activations over their median."""

import numpy as np
import scipy.sparse as sp

from isogloss.universality.nulls.compress import compress


def test_each_feature_is_scaled_by_the_median_of_what_it_fires_with() -> None:
    dense = np.array([[0.0, 4.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0], [8.0, 0.0, 2.0, 0.0]])
    found = compress(sp.csr_array(dense)).toarray()
    np.testing.assert_allclose(found[0], np.log1p([0, 2, 0.5, 1]))
    assert not found[1].any()
    np.testing.assert_allclose(found[2], np.log1p([8 / 5, 0, 2 / 5, 0]))


def test_the_scale_of_activations_does_not_matter() -> None:
    codes = sp.csr_array(sp.random_array((5, 60), density=0.3, rng=np.random.default_rng(0)))
    scaled = sp.csr_array(codes * 7.5)
    np.testing.assert_allclose(compress(scaled).toarray(), compress(codes).toarray())
