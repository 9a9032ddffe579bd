"""Features that fire like given codes."""

import numpy as np
import pytest

from isogloss.errors import DeadFeature, InvalidInput, ShapeError
from isogloss.universality import Probe, ProbedDictionary, nearest_to_profile
from isogloss.universality.testing import ProbeShape, random_codes, synthetic_probe, write_probed

SHAPE = ProbeShape(documents=40, length=30)


@pytest.fixture(scope="module")
def probe() -> Probe:
    return synthetic_probe(SHAPE)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> ProbedDictionary:
    codes = random_codes(np.random.default_rng(0), SHAPE.segments, 50, 5)
    return write_probed(tmp_path_factory.mktemp("profile") / "a", "a", codes)


def dense(target: ProbedDictionary) -> np.ndarray:
    return target.features_matrix(range(target.features)).toarray()


def test_every_feature_is_ranked_by_its_exact_correlation(
    probe: Probe, target: ProbedDictionary
) -> None:
    profile = np.random.default_rng(1).random(SHAPE.segments) + dense(target)[7]
    wanted = [float(np.corrcoef(profile, row)[0, 1]) for row in dense(target)]
    found = nearest_to_profile(profile, {"a": target}, probe, count=3)
    best = sorted(range(50), key=lambda n: -wanted[n])[:3]
    assert [hit.feature for hit in found] == best
    assert best[0] == 7
    np.testing.assert_allclose([hit.r for hit in found], sorted(wanted)[::-1][:3], rtol=1e-9)
    assert found[0].margin == pytest.approx(found[0].r - found[1].r)
    assert found[1].margin < 0
    assert found[0].fires == int((dense(target)[7] > 0).sum())
    assert not any(hit.mutual for hit in found)


def test_a_feature_finds_itself_with_r_1(probe: Probe, target: ProbedDictionary) -> None:
    (hit,) = nearest_to_profile(dense(target)[11], {"a": target}, probe, count=1)
    assert (hit.feature, round(hit.r, 9)) == (11, 1.0)
    assert hit.cofires == hit.fires


def test_what_cannot_be_compared_is_refused(probe: Probe, target: ProbedDictionary) -> None:
    with pytest.raises(ShapeError, match=r"codes are \[3\], wanted \[1200\]"):
        nearest_to_profile(np.zeros(3), {"a": target}, probe)
    with pytest.raises(DeadFeature, match="do not vary"):
        nearest_to_profile(np.ones(SHAPE.segments), {"a": target}, probe)
    with pytest.raises(InvalidInput, match="not finite"):
        nearest_to_profile(np.full(SHAPE.segments, np.nan), {"a": target}, probe)
    with pytest.raises(InvalidInput, match="0 dictionaries"):
        nearest_to_profile(np.zeros(SHAPE.segments), {}, probe)
