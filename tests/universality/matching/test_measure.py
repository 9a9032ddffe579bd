"""Pairs are measured on the half that did not choose them."""

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.matching.directions import Directions
from isogloss.universality.matching.match import match
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.probe.probe import Probe
from isogloss.universality.testing.synthetic import ProbeShape, write_probed

SHAPE = ProbeShape(documents=80, length=50)

FREE = MatchSettings(keys=("none",))


def test_a_pair_that_is_not_mutual_best_again_does_not_replicate(
    probe: Probe, tmp_path: Path
) -> None:
    """On the report half another feature fires where the partner did."""
    generator = np.random.default_rng(9)
    fires = generator.random((SHAPE.segments, 1)) < 0.1
    strength = 0.5 + generator.random((SHAPE.segments, 1))
    other = (generator.random((SHAPE.segments, 1)) < 0.1) * strength
    a = fires * strength
    report = (probe.half == 1)[:, None]
    half_of_it = a * (generator.random((SHAPE.segments, 1)) < 0.5)
    partner, rival = np.where(report, half_of_it, a), np.where(report, a, other)
    one = write_probed(tmp_path / "a", "a", sp.csr_array(a))
    two = write_probed(tmp_path / "b", "b", sp.csr_array(np.hstack([partner, rival])))
    pairs = match(one, two, probe, settings=FREE).pairs
    assert (pairs.feature_b.tolist(), pairs.rank_a.tolist()) == ([0], [1])
    assert pairs.rank_b.tolist() == [2]
    assert pairs.ci_low[0] > 0.4
    assert pairs.replicates_is("no").all()


def test_few_co_firings_mark_the_upper_end(probe: Probe, tmp_path: Path) -> None:
    codes = np.zeros((SHAPE.segments, 2))
    for half in (0, 1):
        rows = np.flatnonzero(probe.half == half)
        codes[rows[::40], 0] = 1.0
        codes[rows[3::40], 1] = 1.0
    thin = codes.copy()
    for feature, kept in ((0, 9), (1, 10)):
        fires = np.flatnonzero((codes[:, feature] > 0) & (probe.half == 1))
        thin[fires[kept:], feature] = 0
    one = write_probed(tmp_path / "a", "a", sp.csr_array(codes))
    two = write_probed(tmp_path / "b", "b", sp.csr_array(thin))
    pairs = match(one, two, probe, settings=FREE).pairs
    order = np.argsort(pairs.feature_a)
    assert pairs.cofires[order].tolist() == [9, 10]
    assert pairs.ci_high_loose[order].tolist() == [True, False]


def test_cosines_are_of_what_is_read_and_of_what_is_written(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe
) -> None:
    random = np.random.default_rng(3)
    rows = [random.standard_normal((side.features, 9)).astype(np.float32) for side in copied * 2]
    a, b = (Directions(decoder=rows[n], encoder=rows[n + 2]) for n in (0, 1))
    pairs = match(*copied, probe, settings=FREE, directions=(a, b)).pairs
    for found, one, other in (
        (pairs.decoder_cosine, rows[0], rows[1]),
        (pairs.encoder_cosine, rows[2], rows[3]),
    ):
        left, right = one[pairs.feature_a], other[pairs.feature_b]
        norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        np.testing.assert_allclose(found, (left * right).sum(1) / norms, rtol=1e-5, atol=1e-6)
