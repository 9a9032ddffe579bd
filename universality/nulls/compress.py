"""Compressed codes: activations on a logarithmic scale, so that a few huge ones decide nothing."""

import numpy as np
import scipy.sparse as sp

from isogloss.universality.correlation.moments import shape_of


def compress(features: sp.csr_array) -> sp.csr_array:
    """Return log(1 + a / median of the activations above zero), feature by feature.

    Activations are heavy-tailed: on raw codes a dozen rows may carry a correlation, and no test of
    it has power. What is zero stays zero.

    Args:
        features: feature-major codes without stored zeros, ``[features, rows]``, none negative.

    Returns:
        ``[features, rows]`` with the same entries stored.
    """
    fires = np.diff(features.indptr)
    median = np.ones(shape_of(features)[0])
    for feature in np.flatnonzero(fires).tolist():
        values = features.data[features.indptr[feature] : features.indptr[feature + 1]]
        middle = [(len(values) - 1) // 2, len(values) // 2]
        # partly sorted: a tenth of the time of sorting all features together
        median[feature] = np.partition(values, middle)[middle].mean()
    scaled = np.log1p(features.data / np.repeat(median, fires))
    return sp.csr_array((scaled, features.indices, features.indptr), shape=features.shape)
