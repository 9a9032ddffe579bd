"""Commands about features, on a store that nobody serves: it is read, never owned."""

import csv
import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.service import made
from tests.service.cli.flags import flags_on
from tests.service.values.test_results import PAIR

import isogloss
import isogloss.service.cli.main as cli
from isogloss.service.cli.study import features
from isogloss.service.values.results import FeatureInfo
from isogloss.store import store_owner


class Here:
    """The command line run in this process."""

    def __init__(
        self, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setenv("ISOGLOSS_STORE", str(store))

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["isogloss", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def here(
    made_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    return Here(made_store, monkeypatch, capsys)


def test_a_feature_is_shown_with_where_it_fires(here: Here) -> None:
    code, out, err = here("feature", "small", "3")
    assert (code, err) == (0, "")
    first, *places = out.splitlines()
    assert first.startswith("feature 3 of small: fires on ")
    assert len(places) == 5
    assert all("[word" in place for place in places)
    found = json.loads(here("feature", "small", "3", "--json")[1])
    assert f"fires on {found['fires']:,} segments" in first


def test_contexts_are_a_table_with_the_text_in_parts_for_programs(here: Here) -> None:
    code, out, err = here("contexts", "small", "3", "--count", "4", "--csv")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 4
    assert list(rows[0]) == ["value", "document", "before", "peak", "after"]
    values = [float(row["value"]) for row in rows]
    assert values == sorted(values, reverse=True)
    shown = here("contexts", "small", "3", "--count", "4")[1]
    assert shown.count(f"[{rows[0]['peak']}]") >= 1


def test_nearest_searches_all_others_unless_told_which(here: Here) -> None:
    code, out, err = here("nearest", "small", "14", "--count", "1", "--csv")
    assert (code, err) == (0, "")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["dictionary"], row["feature"], row["mutual"]) == ("large", "14", "true")
    assert float(row["r"]) > 0.9


def test_a_direction_and_codes_are_read_from_files(here: Here, tmp_path: Path) -> None:
    np.save(tmp_path / "direction.npy", made.directions("small-docs", 1)[5])
    words = ("nearest", "--direction", str(tmp_path / "direction.npy"), "--recording", "small-docs")
    code, out, _ = here(*words, "--count", "1", "--json")
    assert code == 0
    (hit,) = json.loads(out)
    assert (hit["dictionary"], hit["feature"], round(hit["cosine"], 5)) == ("small", 5, 1.0)
    assert "large is left out: it was trained on recording 'large-docs'" in here(*words)[2]
    (tmp_path / "odd.npy").write_bytes(b"odd")
    np.savez(tmp_path / "several.npz", one=np.ones(3))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    for name, said in (
        ("odd.npy", "odd.npy holds no array of numbers"),
        ("several.npz", "several.npz holds several arrays"),
        ("words.npy", "codes is <U1, wanted [segments]"),
    ):
        code, _, err = here("nearest", "--codes", str(tmp_path / name), "--probe", made.PROBE)
        assert code == 1
        assert said in err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("small",),
        ("small", "1", "--text", "a"),
        ("--text", "a"),
        ("--text", "a", "--codes", "b"),
        ("small", "1", "--model", "m"),
        ("small", "1", "--site", "layer.1"),
        ("--text", "a", "--model", "m", "--probe", "p"),
        ("--direction", "a", "--model", "m"),
        ("--codes", "a", "--probe", "p", "--recording", "r"),
    ],
)
def test_one_thing_to_compare_with_is_wanted_and_what_belongs_to_it(
    here: Here, words: tuple[str, ...]
) -> None:
    code, _, err = here("nearest", *words)
    assert code == 2
    assert "Usage" in err


def test_a_store_that_a_notebook_holds_can_be_read_and_stays_its(
    made_store: Path, here: Here
) -> None:
    with isogloss.connect(made_store, run_workers=False) as notebook:
        owner = store_owner(made_store)
        for words in (
            ("recordings",),
            ("dictionaries",),
            ("probes",),
            ("matches",),
            ("jobs",),
            ("info",),
            ("kinds",),
            ("describe", "small-docs"),
            ("lanes", "small-docs"),
            ("read", "small-docs", "--count", "2"),
            ("feature", "small", "3"),
            ("contexts", "small", "3"),
            ("nearest", "small", "14"),
        ):
            code, out, err = here(*words)
            assert (code, err) == (0, ""), words
            assert out
        assert store_owner(made_store) == owner
        assert len(notebook.dictionaries()) == 2
    code, _, err = here("pairs", "lost")
    assert code == 1
    assert "no match 'lost'" in err


def test_features_and_pairs_are_told_as_text_unless_asked_otherwise() -> None:
    assert not {flag for flag in flags_on() if flag.startswith(("feature", "pairs ", "nearest "))}


@pytest.mark.parametrize(
    ("fires", "said"),
    [
        (0, "fires on no segment of probe p"),
        (1, "fires on 1 segment of probe p (1 in 1,000), at most 2.50"),
        (1000, "fires on 1,000 segments of probe p (1 in 1), at most 2.50"),
    ],
)
def test_how_often_a_feature_fires_is_told_in_whole_words(fires: int, said: str) -> None:
    found = FeatureInfo(
        dictionary="d",
        feature=1,
        probe="p",
        fires=fires,
        density=fires / 1000,
        max_activation=2.5 if fires else 0.0,
        contexts=(),
    )
    assert features._how_often(found) == said


def test_an_upper_end_that_is_no_claim_is_marked_where_there_is_one() -> None:
    ends = replace(PAIR, ci_low=0.2, ci_high=0.45, ci_high_loose=False)
    assert features._upper(ends) == 0.45
    assert features._upper(replace(ends, ci_high_loose=True)) == "0.450+"
    without = replace(ends, ci_high=math.nan, ci_high_loose=True)
    assert isinstance(features._upper(without), float)
    assert not features._is_marked(without)  # so that nothing explains a sign that is not there
