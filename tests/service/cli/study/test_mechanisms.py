"""Commands that look into a model."""

import json
from pathlib import Path

import pytest
from tests.service.cli.study.conftest import Run

from isogloss.models import read_graph


def test_heads_are_scored_beside_their_null(run: Run, gpt2: str):
    code, out, _ = run("attention", gpt2, "--count", "2", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["kind"] for row in rows] == [
        kind for kind in ("previous", "first", "duplicate", "induction") for _ in range(2)
    ]
    assert all(0 <= row["score"] <= 1 and 0 < row["null"] < 1 for row in rows)


def test_heads_are_drawn_on_a_text(run: Run, gpt2: str, tmp_path: Path):
    words = ("--text", "each call resumes", "--head", "1.0", "-o", "page.html")
    code, out, _ = run("attention", gpt2, *words)
    assert (code, out.strip()) == (0, "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 1
    assert "layer 1, head 0" in page


def test_pairs_of_your_own_are_traced_and_estimated(run: Run, gpt2: str, tmp_path: Path):
    own = ("--clean", "each call", "--corrupt", "each type", "--right", "a", "--wrong", "b")
    code, out, err = run("trace", gpt2, *own, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["sites"] == ["transformer.h.0", "transformer.h.1"]
    assert len(found["effects"]) == 2
    assert f"2 sites x {len(found['tokens'])} tokens: " in err
    assert found["effects"][1][-1] == pytest.approx(1, abs=1e-4)
    assert (tmp_path / "trace.html").read_text().count("<rect") == 2 * len(found["tokens"])
    code, out, err = run("trace", gpt2, *own, "--attribution", "--site", "h.0.attn.head.1")
    assert code == 0
    assert "passes of the model" not in err
    assert "h.0.attn.head.1: most at" in out


def test_a_task_is_traced(run: Run, gpt2: str):
    code, out, err = run("trace", gpt2, "--task", "induction", "--count", "2", "--noise", "--json")
    assert code == 0, err
    assert json.loads(out)["mode"] == "noise"


def test_a_circuit_is_found_drawn_and_written(run: Run, gpt2: str, tmp_path: Path):
    words = ("--task", "induction", "--count", "2", "--random", "2", "--graph", "graph.json")
    code, out, err = run("circuit", gpt2, *words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert abs(1 - found["faithfulness"]) <= 0.05
    assert found["edges"] == len(found["names"]) <= found["all_edges"]
    assert len(found["curve"]["random"][0]) == 2
    assert (tmp_path / "circuit.html").read_text().count('class="link') > 0
    assert len(read_graph(tmp_path / "graph.json").links) >= found["edges"]
    own = ("--clean", "each call", "--corrupt", "each type", "--right", "a", "--wrong", "b")
    code, out, err = run("circuit", gpt2, *own, "--way", "eap")
    assert code == 0, err
    assert "edges; faithfulness" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("attention", "--head", "1.0"), "give --text"),
        (("attention", "--text", "call", "--head", "1"), "LAYER.HEAD"),
        (("attention", "--text", "call", "--head", "1.7"), "heads 0 to 1"),
        (("attention", "--text", "call " * 200), "the model reads 128"),
        (("attention", "--text", "call", "-o", "no/such/page.html"), "cannot be written"),
        (("trace",), "give --task, or"),
        (("trace", "--task", "induction", "--clean", "a"), "one of both"),
        (("trace", "--task", "memory"), "there are indirect-object, greater-than, induction"),
        (("trace", "--task", "induction", "--metric", "loss"), "wanted one of logit_difference"),
        (("trace", "--task", "induction", "--site", "h.9"), "nearest"),
        (("trace", "--task", "induction", "--site", "h.1", "--site", "h.1"), "named twice"),
        (
            ("trace", "--task", "induction", "--site", "h.1", "--site", "transformer.h.1"),
            "are one place",
        ),
        (("circuit",), "give --task, or"),
        (("circuit", "--task", "induction", "--way", "acdc"), "wanted one of eap, eap-ig"),
        (("circuit", "--task", "induction", "--faithfulness", "2"), "above 0 and at most 1"),
        (("circuit", "--task", "induction", "-o", "no/such/page.html"), "cannot be written"),
    ],
)
def test_wrong_use_is_told_in_a_line(run: Run, gpt2: str, words: tuple[str, ...], said: str):
    code, _, err = run(words[0], gpt2, *words[1:])
    assert code == 1
    assert said in err
    assert "passes of the model" not in err  # before any pass
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        ("attention", "--text", "call", "-o", "no/such/page.html"),
        ("trace", "--task", "induction", "-o", "."),
        ("circuit", "--task", "induction", "-o", "no/such/page.html"),
        ("circuit", "--task", "induction", "--graph", "no/such/graph.json"),
        ("feature-circuit", "--dictionary", "d", "--task", "induction", "-o", "text.txt/page.html"),
        ("feature-circuit", "--dictionary", "d", "--task", "induction", "--graph", "."),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_a_model_is_loaded(
    run: Run, words: tuple[str, ...], tmp_path: Path
):
    (tmp_path / "text.txt").write_text("a file")
    code, _, err = run(words[0], "no/such/model", *words[1:])
    assert code == 1
    assert f"{words[-1]} cannot be written" in err
    assert f"choose {'--graph' if '--graph' in words else '--output'}" in err
