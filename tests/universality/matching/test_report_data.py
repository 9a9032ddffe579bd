"""The data of a report say what the match holds, in the documented form."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isogloss.universality.matching.match import match
from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.matching.report_data import report_data
from isogloss.universality.matching.result import Match
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.matching.summary import LEVELS, summary_text
from isogloss.universality.probe.probe import Probe
from isogloss.universality.testing.synthetic import (
    ProbeShape,
    random_codes,
    write_probed,
)

SHAPE = ProbeShape(documents=80, length=50)


@pytest.fixture(scope="module")
def found(mixed: Match) -> Match:
    return mixed


@pytest.fixture(scope="module")
def data(found: Match) -> Any:
    return json.loads(json.dumps(report_data(found, top=5), allow_nan=False))


def test_counts_are_those_of_the_pairs(found: Match, data: Any) -> None:
    assert [row["threshold"] for row in data["counts"]] == list(LEVELS)
    for row in data["counts"]:
        chosen = found.pairs.r >= row["threshold"]
        assert row["shared"] == chosen.sum() > 0
        for label in ("yes", "no", "undecided"):
            replicates, beyond = (
                found.pairs.replicates_is(label),
                found.pairs.beyond_token_is(label),
            )
            assert row["replicates"][label] == (chosen & replicates).sum()
            assert row["beyond_token"][label] == (chosen & beyond).sum()
        assert row["partial_known"] == (chosen & np.isfinite(found.pairs.partial_token)).sum()
        assert sum(row["explained_by"].values()) == row["shared"]
        for key, mean in row["nulls"].items():
            null = found.null(key)
            assert mean == (null.pair_r >= row["threshold"]).sum() / null.draws
            assert row["null_errors"][key] <= max(0.02 * mean, 1)
    assert data["counts"][0]["explained_by"]["token"] >= 20
    assert data["counts"][0]["explained_by"]["none"] >= 55
    assert data["counts"][0]["nulls"]["token"] >= 20
    assert data["counts"][0]["nulls"]["none"] < 1


def test_curves_fall_and_stand_beside_every_null(found: Match, data: Any) -> None:
    curves = data["curves"]
    assert curves["thresholds"] == [round(0.05 * step, 2) for step in range(1, 20)]
    assert set(curves["nulls"]) == {"none", "token", "position"}
    lines = (curves["shared"], curves["replicates"], curves["beyond_token"])
    for line in (*lines, *curves["nulls"].values()):
        assert len(line) == 19
        assert all(high >= low for high, low in pairwise(line))
    for key, line in curves["nulls"].items():
        assert line[5] == data["counts"][0]["nulls"][key]
    assert curves["shared"][5] == (found.pairs.r >= 0.3).sum()
    assert all(
        beyond <= shared
        for beyond, shared in zip(curves["beyond_token"], curves["shared"], strict=True)
    )


def test_margins_part_the_shared_pairs_by_how_far_they_lead(found: Match, data: Any) -> None:
    margins = data["margins"]
    shared = found.pairs.r >= 0.3
    assert sum(margins["pairs"]) == shared.sum()
    assert sum(margins["replicates"]) == (shared & found.pairs.replicates_is("yes")).sum()
    narrow = shared & (found.pairs.margin >= 0.02) & (found.pairs.margin < 0.05)
    assert margins["from"][2:4] == [0.02, 0.05]
    assert margins["pairs"][2] == narrow.sum()
    again = (found.pairs.rank_a == 1) & (found.pairs.rank_b == 1)
    assert margins["mutual_again"][2] == (narrow & again).sum()
    assert data["chance"] == found.chance > 0


def test_a_margin_on_an_edge_is_of_the_band_that_begins_there(found: Match) -> None:
    leads = np.array([0.0, -1e-17, 0.009, 0.01, 0.02, 0.049, 0.3, 0.5, 0.9])
    pairs = found.pairs.take(np.arange(len(leads)))
    columns = {**pairs.columns(), "margin": leads, "r": np.full(len(leads), 0.3)}
    changed = replace(found, pairs=Pairs.from_columns(columns))
    margins = report_data(changed)["margins"]
    assert isinstance(margins, dict)
    assert margins["from"] == [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]
    assert margins["pairs"] == [3, 1, 2, 0, 0, 0, 1, 2]


def test_histograms_count_every_compared_feature(found: Match, data: Any) -> None:
    best = data["best"]
    assert sum(best["a"]) == len(found.a.compared) == data["a"]["compared"]
    assert sum(best["nulls"]["token"]["b"]) == pytest.approx(len(found.b.compared))
    density = data["a"]["density"]
    assert len(density["edges"]) == len(density["counts"]) + 1
    assert sum(density["counts"]) == len(found.a.compared)
    explained = data["explained"]
    known = int(np.isfinite(found.pairs.token_null[found.pairs.r >= 0.3]).sum())
    assert known == sum(explained["token_null"]) == sum(explained["excess"])
    assert 0 < known <= explained["pairs"]
    assert sum(explained["partial_token"]) <= explained["pairs"]


def test_bands_cover_the_features_and_their_pairs(found: Match, data: Any) -> None:
    assert sum(band["features"] for band in data["bands"]) == len(found.a.compared)
    assert sum(band["shared"] for band in data["bands"]) == (found.pairs.r >= 0.3).sum()
    for band in data["bands"]:
        assert band["fires_to"] is None or band["fires_from"] < band["fires_to"]
        assert band["share"] == band["shared"] / band["features"]


def test_examples_are_whole_rows_in_their_order(found: Match, data: Any) -> None:
    examples = data["examples"]
    assert all(len(rows) <= 5 for rows in examples.values())
    columns = {*found.pairs.columns(), "excess", "explained_by"}
    assert all(set(row) == columns for rows in examples.values() for row in rows)
    good = found.pairs.replicates_is("yes")
    certain = found.pairs.ci_low[good]
    assert [row["ci_low"] for row in examples["best"]] == sorted(certain, reverse=True)[:5]
    held = [min(row["beyond_low"], row["ci_low"]) for row in examples["beyond_token"]]
    assert held == sorted(held, reverse=True)
    assert {row["beyond_token"] for row in examples["beyond_token"]} == {"yes"}
    assert {row["replicates"] for row in examples["typical"]} == {"yes"}
    middle = np.median(found.pairs.r[good])
    assert abs(examples["typical"][0]["r"] - middle) < 0.05
    assert not any(row["replicates"] == "yes" for row in examples["unreplicated"])


def test_scatter_has_one_entry_a_pair(found: Match, data: Any) -> None:
    assert {len(column) for column in data["scatter"].values()} == {len(found.pairs)}
    assert set(data["scatter"]["explained_by"]) <= {"token", "position", "document", "none"}


def test_the_documented_keys_are_all_there_and_no_other(data: Any) -> None:
    from isogloss.universality.matching import report_data as module

    documented = module.__doc__ or ""
    for name in data:
        assert f"\n    {name}" in documented or f", {name}:" in documented, name
    assert data["version"] == 2
    assert data["probe"]["segments"] == {"choose": 2000, "report": 2000}
    assert data["movable"]["none"] == 1.0


def test_a_match_of_nothing_still_has_data(probe: Probe, tmp_path: Path) -> None:
    one, other = (
        write_probed(
            tmp_path / str(seed),
            str(seed),
            random_codes(np.random.default_rng(seed), SHAPE.segments, 30, 3),
        )
        for seed in (1, 2)
    )
    found = match(one, other, probe, settings=MatchSettings(min_r=0.9, keys=("none",)))
    data = json.loads(json.dumps(report_data(found), allow_nan=False))
    assert data["pairs"] == 0
    assert data["counts"][0]["median_partial_token"] is None
    assert data["examples"]["typical"] == []
    assert set(data["curves"]["nulls"]) == {"none"}
    assert [caution["code"] for caution in data["cautions"]] == ["FEW_PAIRS"]
    assert "nothing to explain" in summary_text(found)
