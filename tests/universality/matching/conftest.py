"""A dictionary and its noisy copy, matched once for all tests that only look at it."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.matching.match import match
from isogloss.universality.matching.result import Match
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.probe.probe import Probe
from isogloss.universality.testing.synthetic import (
    ProbeShape,
    drop_firings,
    random_codes,
    synthetic_probe,
    write_probed,
)

SHAPE = ProbeShape(documents=80, length=50)

FEATURES = 120

Array = NDArray[Any]


@pytest.fixture(scope="session")
def probe() -> Probe:
    return synthetic_probe(SHAPE)


@pytest.fixture(scope="session")
def permutation() -> Array:
    return np.random.default_rng(1).permutation(FEATURES)


@pytest.fixture(scope="session")
def copied(
    probe: Probe, permutation: Array, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ProbedDictionary, ProbedDictionary]:
    """A dictionary, and its copy with permuted features and a fifth of the firings dropped."""
    generator = np.random.default_rng(2)
    codes = random_codes(generator, SHAPE.segments, FEATURES, 8)
    copy = drop_firings(generator, codes[:, permutation], 0.2)
    root = tmp_path_factory.mktemp("copied")
    return write_probed(root / "a", "left", codes), write_probed(root / "b", "right", copy)


@pytest.fixture(scope="session")
def found(copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe) -> Match:
    return match(*copied, probe, settings=MatchSettings(keys=("none", "token", "position")))


@pytest.fixture(scope="session")
def mixed(probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Match:
    """Sixty shared features, thirty of the token alone, and thirty private ones."""
    generator = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("codes")
    shared = random_codes(generator, SHAPE.segments, 60, 5)
    of_token = (probe.stratum_token[:, None] == np.arange(30)).astype(float)
    sides: list[sp.csr_array] = []
    for order in (np.arange(60), np.roll(np.arange(60), 7)):
        noisy = of_token * (0.5 + generator.random(of_token.shape))
        private = random_codes(generator, SHAPE.segments, 30, 3)
        kept = drop_firings(generator, shared[:, order], 0.3)
        sides.append(sp.csr_array(sp.hstack([kept, sp.csr_array(noisy), private])))
    settings = MatchSettings(draws=2)
    return match(
        write_probed(root / "a", "left", sides[0]),
        write_probed(root / "b", "right", sides[1]),
        probe,
        settings=settings,
    )
