"""Circuits of features, and features of what repeats, on the command line."""

import json
from pathlib import Path

import pytest
from tests.service.cli.study.conftest import Run

from isogloss.models import read_graph


@pytest.fixture(scope="module")
def stored(gpt2: str, trained_store: Path) -> tuple[str, str]:
    return gpt2, str(trained_store)


OWN = ("--clean", "each call", "--corrupt", "each type", "--right", "a", "--wrong", "b")
BOTH = ("--dictionary", "first", "--dictionary", "second")


def test_a_circuit_of_features_is_found_drawn_and_written(
    run: Run, stored: tuple[str, str], tmp_path: Path
) -> None:
    gpt2, store = stored
    words = ("--features", "6", "--random", "3", "--graph", "graph.json", "--store", store)
    code, out, err = run("feature-circuit", gpt2, *BOTH, *OWN, *words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["features"]) == 6
    assert {one["site"] for one in found["features"]} <= {"transformer.h.0", "transformer.h.1"}
    effects = [abs(one["effect"]) for one in found["features"]]
    assert effects == sorted(effects, reverse=True)
    assert len(found["random"]) == 3
    assert 0 < found["p"] <= 1
    names = {node.name for node in read_graph(tmp_path / "graph.json").nodes}
    assert {link["source"] for link in found["links"]} <= names
    page = (tmp_path / "feature-circuit.html").read_text()
    assert page.count('class="part"') == 7
    code, out, err = run("feature-circuit", gpt2, *BOTH, *OWN, "--store", store, "-o", "other.html")
    assert code == 0, err
    assert "of no feature" in out
    assert out.strip().endswith("other.html")


def test_features_of_what_repeats_are_listed(run: Run, stored: tuple[str, str]) -> None:
    gpt2, store = stored
    words = ("--model", gpt2, "--texts", "4", "--tokens", "20", "--store", store)
    code, out, err = run("repeat-features", "first", *words, "--count", "3", "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert 1 <= len(rows) <= 3
    assert all(0 <= row["first"] <= 1 and 0 <= row["second"] <= 1 for row in rows)
    gaps = [row["second"] - row["first"] for row in rows]
    assert gaps == sorted(gaps, reverse=True)
    code, out, _ = run("repeat-features", "first", *words, "--csv")
    assert code == 0
    assert out.splitlines()[0] == "feature,first,second,p"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*BOTH,), "give --task, or"),
        ((*BOTH, *OWN, "--metric", "loss"), "wanted one of logit_difference"),
        ((*BOTH, *OWN, "--metric", "kl"), "wanted logit_difference or probability"),
        (("--dictionary", "none", *OWN), "none"),
        (("--dictionary", "first", "--dictionary", "first", *OWN), "two dictionaries are of site"),
        (("--dictionary", "first:h.1", *OWN), "site"),
        (("--dictionary", "first", "--dictionary", "second:h.0", *OWN), "two dictionaries are of"),
        (("--dictionary", "first:h.9", *OWN), "nearest"),
        ((*BOTH, *OWN[:2], "--corrupt", "each other type", *OWN[4:]), "tokens"),
        ((*BOTH, *OWN, "-o", "no/such/page.html"), "cannot be written"),
    ],
)
def test_wrong_use_is_told_in_a_line(
    run: Run, stored: tuple[str, str], words: tuple[str, ...], said: str
) -> None:
    gpt2, store = stored
    code, _, err = run("feature-circuit", gpt2, "--store", store, *words)
    assert code == 1
    assert said in err
    assert "Traceback" not in err


def test_another_model_is_refused_unless_it_may_differ(
    run: Run, stored: tuple[str, str], other_gpt2: str
) -> None:
    _, store = stored
    words = ("--model", other_gpt2, "--texts", "2", "--tokens", "12", "--store", store)
    code, _, err = run("repeat-features", "first", *words)
    assert code == 1
    assert "allow" in err
    code, _, err = run("repeat-features", "first", *words, "--allow", "model")
    assert code == 0, err
    code, _, err = run("repeat-features", "first", *words, "--allow", "colour")
    assert code == 1
    assert "parts of a passport" in err
