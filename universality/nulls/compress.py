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
    feature = np.repeat(np.arange(shape_of(features)[0]), fires)
    ordered = features.data[np.lexsort((features.data, feature))]
    fired = np.flatnonzero(fires)
    first, count = features.indptr[fired], fires[fired]
    median = np.ones(len(fires))
    median[fired] = (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2
    scaled = np.log1p(features.data / median[feature])
    return sp.csr_array((scaled, features.indices, features.indptr), shape=features.shape)
