"""Split and merged features: the best small subset, its R² on fresh rows, and its null."""

from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.matching.match import match
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.matching.subsets import best_subsets
from isogloss.universality.probe.probe import Probe
from isogloss.universality.testing.dense import dense_codes, dense_correlations
from isogloss.universality.testing.synthetic import random_codes, write_probed

Array = NDArray[np.float64]


def _r2(target: Array, rows: Array) -> tuple[float, Array]:
    """Return R² and weights of a plain regression with intercept."""
    design = np.column_stack([np.ones(len(rows)), rows])
    weights = np.linalg.lstsq(design, target, rcond=None)[0]
    left = target - design @ weights
    share = 1 - left @ left / ((target - target.mean()) ** 2).sum()
    return float(share), np.asarray(weights[1:], np.float64)


def test_the_subset_is_the_best_of_all_by_plain_regression() -> None:
    a, b = dense_codes(1, rows=400, features=6), dense_codes(2, rows=400, features=9)
    a[:, 0] = b[:, 2] + 0.7 * b[:, 5] + 0.2 * a[:, 0]
    halves = [
        (sp.csr_array(a[part].T), sp.csr_array(b[part])) for part in (slice(200), slice(200, None))
    ]
    found = best_subsets((halves[0][0], halves[1][0]), (halves[0][1], halves[1][1]), most=2)
    r = dense_correlations(a[:200], b[:200])
    for feature in range(6):
        partners = np.argsort(-r[feature])[:8]
        partners = partners[r[feature, partners] > 0]
        tried = [
            subset for size in (1, 2) for subset in combinations(sorted(partners.tolist()), size)
        ]
        best = max(tried, key=lambda s: _r2(a[:200, feature], b[:200, list(s)])[0])
        members = found.members[feature]
        assert sorted(members[members >= 0].tolist()) == sorted(best)
        wanted, weights = _r2(a[:200, feature], b[:200, sorted(best)])
        assert found.r2_choose[feature] == pytest.approx(wanted, abs=1e-6)
        fresh = np.corrcoef(a[200:, feature], b[200:, sorted(best)] @ weights)[0, 1]
        assert found.r2[feature] == pytest.approx(max(fresh, 0) ** 2, abs=1e-6)
    assert sorted(found.members[0].tolist()) == [2, 5]
    assert found.r2[0] > 0.9 > found.r2_single[0] + 0.1


def test_how_strong_activations_are_changes_no_subset() -> None:
    a, b = dense_codes(1, rows=200, features=4), dense_codes(2, rows=200, features=5)
    b[:, 4] = 0.0  # a candidate that is constant
    found = []
    for scale in (1.0, 1e-6):
        one, other = sp.csr_array(scale * a.T), sp.csr_array(scale * b)
        found.append(best_subsets((one, one), (other, other), most=2))
    assert (found[0].r2 > 0).any()
    np.testing.assert_array_equal(found[1].members, found[0].members)
    for name in ("r2", "r2_single", "r2_choose"):
        np.testing.assert_allclose(getattr(found[1], name), getattr(found[0], name), rtol=1e-6)


@pytest.fixture(scope="module")
def split(
    probe: Probe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ProbedDictionary, ProbedDictionary]:
    """Twenty features, each in two parts in the second dictionary; forty of either side alone."""
    random = np.random.default_rng(5)
    whole = random_codes(random, probe.segments, 20, 4)
    into_first = random.random(whole.nnz) < 0.5
    parts = [
        sp.csr_array((whole.data * side, whole.indices, whole.indptr), whole.shape, copy=True)
        for side in (into_first, ~into_first)
    ]
    for part in parts:
        part.eliminate_zeros()
    alone = [random_codes(random, probe.segments, 40, 4) for _ in range(2)]
    root = tmp_path_factory.mktemp("split")
    return (
        write_probed(root / "a", "left", sp.csr_array(sp.hstack([whole, alone[0]]))),
        write_probed(root / "b", "right", sp.csr_array(sp.hstack([*parts, alone[1]]))),
    )


def test_split_features_are_found_merged_ones_too_and_shuffled_rows_give_none(
    split: tuple[ProbedDictionary, ProbedDictionary], probe: Probe
) -> None:
    settings = MatchSettings(keys=("none", "token"), draws=1, max_draws=1, subsets=2)
    there = match(*split, probe, settings=settings).split
    back = match(split[1], split[0], probe, settings=settings).merged
    assert there is not None
    assert back is not None
    for found in (there, back):
        together, single, nulls = found.shared(0.9)
        assert (together, single) == (20, 0)
        assert nulls == {"none": 0, "token": 0}
        for feature in range(20):
            assert sorted(found.members[feature].tolist()) == [feature, feature + 20]
        assert (found.gain[:20] > 0.2).all()
        assert (found.r2[20:] < 0.1).all()


def test_more_members_than_can_be_tried_are_refused() -> None:
    codes = sp.csr_array(dense_codes(1))
    with pytest.raises(InvalidInput, match="1 to 4"):
        best_subsets((codes.T.tocsr(), codes.T.tocsr()), (codes, codes), most=5)
    with pytest.raises(InvalidInput, match="at most 4"):
        MatchSettings(subsets=5)
