"""A match survives its files, and files that are no match are refused."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import (
    CorruptData,
    InvalidInput,
    NotFound,
    ShapeError,
    UnsupportedVersion,
)
from isogloss.store import read_arrays, write_arrays
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.matching.directions import Directions
from isogloss.universality.matching.match import match
from isogloss.universality.matching.report_data import report_data
from isogloss.universality.matching.result import Match
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.matching.summary import summary_text
from isogloss.universality.probe.probe import Probe
from isogloss.universality.testing.synthetic import (
    ProbeShape,
    random_codes,
    write_probed,
)

SHAPE = ProbeShape(documents=80, length=50)

FEATURES = 120


def independent(
    root: Path, rows: int = SHAPE.segments, seeds: tuple[int, ...] = (3, 4)
) -> list[ProbedDictionary]:
    return [
        write_probed(
            root / str(seed),
            f"seed-{seed}",
            random_codes(np.random.default_rng(seed), rows, FEATURES, 4),
        )
        for seed in seeds
    ]


def test_a_saved_match_loads_equal(found: Match, tmp_path: Path) -> None:
    found.save(tmp_path / "match")
    loaded = Match.load(tmp_path / "match")
    assert loaded.to_dict() == found.to_dict()
    assert summary_text(loaded) == summary_text(found)
    for name, column in found.pairs.columns().items():
        np.testing.assert_array_equal(loaded.pairs.columns()[name], column, err_msg=name)
        assert loaded.pairs.columns()[name].dtype == column.dtype
    for one, other in zip(found.nulls, loaded.nulls, strict=True):
        np.testing.assert_array_equal(one.best_b, other.best_b)
        np.testing.assert_array_equal(one.pair_draw, other.pair_draw)
    assert (loaded.chance, loaded.on) == (found.chance, found.on)
    np.testing.assert_array_equal(loaded.b.fires, found.b.fires)


def test_a_match_without_pairs_is_saved_and_summarised(probe: Probe, tmp_path: Path) -> None:
    strict = MatchSettings(min_r=0.9)
    one, other = independent(tmp_path)
    found = match(one, other, probe, settings=strict)
    assert len(found.pairs) == 0
    found.save(tmp_path / "match")
    loaded = Match.load(tmp_path / "match")
    assert loaded.settings == strict
    assert "No pair reaches r >= 0.3" in summary_text(loaded)
    assert loaded.null("none").shared(np.array([0.3])).tolist() == [0.0]


def test_rare_features_are_those_neither_compared_nor_dead(found: Match) -> None:
    compared = len(found.a.compared)
    side = replace(found.a, features=compared + 9, dead=5)
    assert side.rare == 4


def test_a_match_has_a_json_form(found: Match) -> None:
    described = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert described["a"]["dictionary"] == "left"
    assert described["pairs"]["r"] == found.pairs.r.tolist()
    assert set(described["pairs"]["replicates"]) == {"yes"}


def test_other_directories_and_versions_are_refused(found: Match, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Match.load(tmp_path / "nothing")
    found.save(tmp_path / "match")
    arrays, attributes = read_arrays(tmp_path / "match")
    write_arrays(tmp_path / "later", arrays, {**attributes, "version": 99})
    with pytest.raises(UnsupportedVersion, match="'match' version 99"):
        Match.load(tmp_path / "later")
    write_arrays(tmp_path / "earlier", arrays, {**attributes, "version": 1})
    with pytest.raises(UnsupportedVersion, match=r"version 1; .*delete the match and match"):
        Match.load(tmp_path / "earlier")
    without = {name: array for name, array in arrays.items() if name != "pairs_r"}
    write_arrays(tmp_path / "part", without, attributes)
    with pytest.raises(CorruptData, match="lack r"):
        Match.load(tmp_path / "part")
    del attributes["settings"]
    write_arrays(tmp_path / "headless", arrays, attributes)
    with pytest.raises(CorruptData, match="settings"):
        Match.load(tmp_path / "headless")


def test_a_null_that_was_not_drawn_is_an_error(found: Match) -> None:
    with pytest.raises(InvalidInput, match=r"'document' was not drawn.*none, token, position"):
        found.null("document")


@pytest.fixture(scope="module")
def whole(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe, permutation: NDArray[np.int64]
) -> Match:
    """A match with everything that can be asked for; the weights of the copy are permuted too."""
    weights = np.random.default_rng(8).standard_normal((len(permutation), 24)).astype(np.float32)
    settings = MatchSettings(keys=("none",), draws=1, max_draws=1, one_to_one=True, subsets=2)
    directions = (
        Directions(decoder=weights, encoder=2 * weights),
        Directions(decoder=weights[permutation]),
    )
    return match(*copied, probe, settings=settings, directions=directions)


def test_what_was_asked_for_finds_the_copy_and_comes_back_from_disk(
    whole: Match, permutation: NDArray[np.int64], tmp_path: Path
) -> None:
    assigned, split = whole.one_to_one, whole.split
    assert assigned is not None
    assert split is not None
    right = permutation[assigned.feature_b] == assigned.feature_a
    assert right.mean() > 0.95
    assert len(set(assigned.feature_a.tolist())) == len(assigned.feature_a)
    assert (np.isclose(whole.pairs.decoder_cosine, 1.0, atol=1e-6)).mean() > 0.95
    assert np.isnan(whole.pairs.encoder_cosine).all()
    assert whole.decoders is not None
    assert whole.decoders.value > 0.999 > whole.decoders.null + 0.2
    whole.save(tmp_path / "match")
    again = Match.load(tmp_path / "match")
    assert again.describe() == whole.describe()
    assert again.one_to_one is not None
    for field in fields(assigned):
        np.testing.assert_array_equal(
            getattr(again.one_to_one, field.name), getattr(assigned, field.name)
        )
    for name in ("split", "merged"):
        before, after = getattr(whole, name), getattr(again, name)
        for part in ("members", "r2_choose", "r2", "r2_single"):
            np.testing.assert_array_equal(getattr(after, part), getattr(before, part))
        assert after.null_r2.keys() == before.null_r2.keys() == {"none"}
    data = report_data(again)
    assert data["one_to_one"] == report_data(whole)["one_to_one"]
    assert "Assigned one to one" in summary_text(again)
    assert "together" in summary_text(again)


def test_weights_of_another_dictionary_are_refused(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe
) -> None:
    wrong = Directions(decoder=np.ones((3, 4), np.float32))
    with pytest.raises(ShapeError, match="weights of 3 features were given for 'right'"):
        match(*copied, probe, directions=(None, wrong))
