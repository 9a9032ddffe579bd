"""What pairs share within strata equals centring, deleting and shuffling the rows themselves."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.universality.nulls import within as module
from isogloss.universality.nulls.strata import Strata
from isogloss.universality.nulls.within import _Cells, within_strata

Array = NDArray[Any]

ROWS, PAIRS = 500, 3


def pairs(seed: int = 0) -> tuple[Array, Array, Strata, Strata]:
    random = np.random.default_rng(seed)
    token = np.minimum(random.geometric(0.08, ROWS), 40)
    fires = random.random((PAIRS, ROWS)) < 0.3
    a = np.where(fires, random.lognormal(0, 1, (PAIRS, ROWS)), 0)
    b = np.where(random.random((PAIRS, ROWS)) < 0.3, a, 0)
    b += np.where(random.random((PAIRS, ROWS)) < 0.1, 1.0, 0)
    return a, b, Strata.of("token", token), Strata.of("document", random.integers(0, 25, ROWS))


def covariance(u: Array, v: Array, label: Array) -> float:
    count = np.maximum(np.bincount(label), 1)
    left = [x - (np.bincount(label, x) / count)[label] for x in (u, v)]
    return float(left[0] @ left[1])


def test_covariances_without_a_source_equal_those_of_the_other_rows() -> None:
    a, b, tokens, sources = pairs()
    cells = _Cells.of(tokens, sources)
    total, deleted = cells.covariances(cells.sums(sp.csr_array(a)), cells.sums(sp.csr_array(b)))
    for n, (x, y) in enumerate(zip(a, b, strict=True)):
        for kind, (u, v) in enumerate(((x, y), (x, x), (y, y))):
            wanted = covariance(u, v, tokens.label)
            np.testing.assert_allclose(total[kind, n], wanted, rtol=1e-10)
            for source in range(sources.size):
                left = sources.label != source
                wanted = covariance(u[left], v[left], tokens.label[left])
                np.testing.assert_allclose(deleted[kind, n, source], wanted, rtol=1e-9)


def test_rows_that_can_only_change_places_with_one_other_count() -> None:
    """Forty tokens of two rows each: both features fire on the same row of each."""
    token, fires = np.repeat(np.arange(40), 2), np.tile([1.0, 0.0], 40)
    sources = Strata.of("document", np.arange(80) // 4)
    codes = sp.csr_array(fires[None])
    same = within_strata(codes, codes, Strata.of("token", token), sources)
    other = within_strata(
        codes, sp.csr_array(fires[::-1][None]), Strata.of("token", token), sources
    )
    assert (same.partial[0], other.partial[0]) == (pytest.approx(1.0), pytest.approx(-1.0))
    assert same.p[0] < 1e-6
    assert other.p[0] > 0.999
    alone = within_strata(codes, codes, Strata.of("token", np.arange(80)), sources)
    assert alone.p[0] == 1.0
    assert np.isnan(alone.partial[0])


def test_p_is_the_share_of_shuffles_that_give_as_much() -> None:
    a, _, tokens, sources = pairs(1)
    random = np.random.default_rng(2)
    b = a[:, random.permutation(ROWS)]
    found = within_strata(sp.csr_array(a), sp.csr_array(b), tokens, sources)
    order = np.argsort(tokens.label, kind="stable")
    for n in range(PAIRS):
        observed = covariance(a[n], b[n], tokens.label)
        centred = a[n] - (np.bincount(tokens.label, a[n]) / tokens.counts)[tokens.label]
        draws = np.empty(4000)
        for draw in range(len(draws)):
            shuffled = np.empty(ROWS)
            shuffled[order] = b[n][np.lexsort((random.random(ROWS), tokens.label))]
            draws[draw] = centred @ shuffled
        # standard error of a share of 4,000 draws: .008 at most; the rest is the shape of the tail
        assert found.p[n] == pytest.approx((draws >= observed).mean(), abs=0.06)


def test_what_strata_explain_whole_has_no_partial_and_no_p() -> None:
    tokens = Strata.of("token", np.arange(400) % 20)
    codes = sp.csr_array((tokens.label % 3 == 0).astype(float)[None])
    found = within_strata(codes, codes, tokens, Strata.of("document", np.arange(400) // 10))
    assert np.isnan([found.partial[0], found.low[0], found.high[0]]).all()
    assert found.p[0] == 1.0


def test_firings_on_tokens_that_stand_once_are_not_movable() -> None:
    tokens = Strata.of("token", np.array([1, 1, 2, 3, 3, 3]))
    sources = Strata.of("document", np.arange(6))
    a = sp.csr_array(np.array([[1.0, 1, 1, 1, 0, 0]]))
    b = sp.csr_array(np.array([[0.0, 1, 1, 1, 1, 1]]))
    assert within_strata(a, b, tokens, sources).movable.tolist() == [3]


def test_the_interval_lies_around_the_partial_and_needs_twenty_sources() -> None:
    a, b, tokens, sources = pairs()
    codes = sp.csr_array(a), sp.csr_array(b)
    found = within_strata(*codes, tokens, sources)
    assert ((found.low < found.partial) & (found.partial < found.high)).all()
    wider = within_strata(*codes, tokens, sources, confidence=0.99)
    assert (wider.low < found.low).all()
    few = within_strata(*codes, tokens, Strata.of("document", sources.label % 19))
    assert np.isnan(few.low).all()
    np.testing.assert_array_equal(few.partial, found.partial)


def test_blocks_of_pairs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, tokens, sources = pairs()
    whole = within_strata(sp.csr_array(a), sp.csr_array(b), tokens, sources)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 1)
    single = within_strata(sp.csr_array(a), sp.csr_array(b), tokens, sources)
    for name in ("partial", "low", "high", "p", "movable"):
        np.testing.assert_array_equal(getattr(single, name), getattr(whole, name))


def test_no_pairs_are_no_error() -> None:
    _, _, tokens, sources = pairs()
    none = sp.csr_array((0, ROWS))
    assert within_strata(none, none, tokens, sources).partial.shape == (0,)
