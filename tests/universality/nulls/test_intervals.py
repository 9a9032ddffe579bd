"""Bootstrap intervals over documents equal resampling the rows themselves."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.universality.nulls.intervals import Intervals, _resample, bootstrap_intervals
from isogloss.universality.nulls.strata import Strata

Array = NDArray[Any]


def codes(
    generator: np.random.Generator, documents: int, length: int, shared: float
) -> tuple[Array, Array]:
    """Two features whose values are set per document: rows of a document are copies."""
    rows = documents * length
    base = generator.random((documents, 1)) * (generator.random((documents, 1)) < 0.5)
    own = generator.random((documents, 1)) * (generator.random((documents, 1)) < 0.5)
    a = np.repeat(base, length, axis=0)
    b = np.repeat(shared * base + (1 - shared) * own, length, axis=0)
    return a.reshape(rows, 1), b.reshape(rows, 1)


def interval(a: Array, b: Array, documents: Strata, **changes: Any) -> Intervals:
    given: dict[str, Any] = {"resamples": 200, "confidence": 0.95, "seed": 0} | changes
    one = np.zeros(a.shape[1], np.int32)
    return bootstrap_intervals(sp.csr_array(a.T), sp.csr_array(b.T), one, one, documents, **given)


def test_ends_equal_quantiles_of_r_over_gathered_documents() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, 30)
    label = np.repeat(np.arange(30), lengths)
    documents = Strata.of("document", label)
    a = generator.random((len(label), 1)) * (generator.random((len(label), 1)) < 0.6)
    b = a * generator.random((len(label), 1))
    found = interval(a, b, documents)
    weights = _resample(documents, 200, 0).astype(int)
    assert (weights.sum(0) == 30).all()
    r = []
    for column in weights.T:
        rows = np.concatenate([np.flatnonzero(label == d) for d in np.repeat(range(30), column)])
        r.append(np.corrcoef(a[rows, 0], b[rows, 0])[0, 1])
    low, high = np.quantile(r, [0.025, 0.975])
    np.testing.assert_allclose([found.low[0], found.high[0]], [low, high], atol=1e-12)


def test_intervals_do_not_shrink_when_documents_only_get_longer() -> None:
    widths = []
    for length in (2, 20):
        a, b = codes(np.random.default_rng(1), 40, length, 0.5)
        documents = Strata.of("document", np.repeat(np.arange(40), length))
        found = interval(a, b, documents)
        widths.append(found.high[0] - found.low[0])
    np.testing.assert_allclose(widths[1], widths[0], rtol=1e-9)
    assert widths[0] > 0.2


def test_intervals_cover_the_true_correlation_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for trial in range(60):
        a, b = codes(generator, 80, 1, 0.6)
        documents = Strata.of("document", np.arange(80))
        found = interval(a, b, documents, seed=trial)
        # var(own) = var(base), so r = .6 / sqrt(.36 + .16)
        covered += found.low[0] <= 0.6 / np.sqrt(0.52) <= found.high[0]
    assert covered >= 50


def test_equal_seeds_give_equal_intervals() -> None:
    a, b = codes(np.random.default_rng(3), 40, 2, 0.5)
    documents = Strata.of("document", np.repeat(np.arange(40), 2))
    one, same, other = (interval(a, b, documents, seed=seed).low[0] for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_a_silent_feature_has_an_interval_of_zero() -> None:
    documents = Strata.of("document", np.arange(20))
    found = interval(np.zeros((20, 1)), np.ones((20, 1)), documents)
    assert (found.low[0], found.high[0]) == (0.0, 0.0)


@pytest.mark.parametrize(("resamples", "confidence"), [(0, 0.95), (10, 0.0), (10, 1.0)])
def test_senseless_settings_are_refused(resamples: int, confidence: float) -> None:
    documents = Strata.of("document", np.arange(20))
    ones = np.ones((20, 1))
    with pytest.raises(InvalidInput, match=f"resamples {resamples}.*confidence {confidence}"):
        interval(ones, ones, documents, resamples=resamples, confidence=confidence)


def test_one_resample_is_an_interval_of_one_value() -> None:
    a, b = codes(np.random.default_rng(4), 40, 1, 0.5)
    found = interval(a, b, Strata.of("document", np.arange(40)), resamples=1)
    assert 0 < found.low[0] == found.high[0] < 1


def test_the_scale_of_activations_changes_no_interval() -> None:
    a, b = codes(np.random.default_rng(5), 40, 1, 0.5)
    documents = Strata.of("document", np.arange(40))
    whole = interval(a, b, documents)
    faint = interval(a / 1024, b / 4096, documents)  # powers of two: no rounding
    np.testing.assert_array_equal([faint.low, faint.high], [whole.low, whole.high])


def test_ends_stay_within_what_a_correlation_can_be() -> None:
    generator = np.random.default_rng(6)
    documents = Strata.of("document", np.arange(40))
    for _ in range(20):
        a = generator.random((40, 1)) + 0.1
        for b, r in ((3 * a, 1.0), (2 - a, -1.0)):
            found = interval(a, b, documents)
            assert -1.0 <= found.low[0] <= found.high[0] <= 1.0
            np.testing.assert_allclose([found.low[0], found.high[0]], r, atol=1e-12)


def test_many_pairs_are_measured_in_blocks_without_a_seam() -> None:
    generator = np.random.default_rng(7)
    documents = Strata.of("document", np.arange(30))
    a, b = generator.random((30, 3)), generator.random((30, 3))
    feature_a, feature_b = generator.integers(0, 3, 1100), generator.integers(0, 3, 1100)
    together = bootstrap_intervals(
        sp.csr_array(a.T),
        sp.csr_array(b.T),
        feature_a,
        feature_b,
        documents,
        resamples=20,
        confidence=0.9,
        seed=0,
    )
    assert (together.low < together.high).all()
    for pair in (0, 511, 512, 513, 1023, 1024, 1099):
        alone = interval(
            a[:, [feature_a[pair]]],
            b[:, [feature_b[pair]]],
            documents,
            resamples=20,
            confidence=0.9,
        )
        assert alone.low[0] == pytest.approx(together.low[pair], abs=1e-12)
        assert alone.high[0] == pytest.approx(together.high[pair], abs=1e-12)
