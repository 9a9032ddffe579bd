"""How far a command is that runs a model many times."""

import re
from pathlib import Path

import pytest
import torch
from tests.service.cli.study.conftest import Run

from isogloss.models import capture, induction_pairs, load_model, score_edges
from isogloss.models.circuits.scores import Scoring
from isogloss.service.cli.study.passes import counted_passes

OWN = ("--clean", "each call", "--corrupt", "each type", "--right", "a", "--wrong", "b")
REPEATS = ("--texts", "5", "--tokens", "20")
FEATURES = ("--feature", "3", "--feature", "5", "--change", "clamp", "--value", "2")
MEASURED = ("text.txt", "--windows", "3", "--tokens", "12", "--random", "2")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is taken for a terminal."""
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "120")):
        monkeypatch.setenv(name, value)


def last(err: str) -> str:
    """Return what the bar said last."""
    return re.findall(r"[a-z][a-z ]*: [\d,]+(?: of [\d,]+)? passes", err)[-1]


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("attention",), "scoring heads: 8 of 8 passes"),
        (("trace", *OWN, "--site", "h.0"), r"tracing: (\d+) of \1 passes"),
        (("trace", *OWN, "--attribution"), "tracing: 3 of 3 passes"),
        (("circuit", *OWN), r"finding the circuit: \d+ passes"),
        (("circuit", *OWN, "--random", "1"), r"circuits of growing size: \d+ passes"),
    ],
)
def test_a_terminal_sees_how_many_passes_were_made(
    run: Run, gpt2: str, words: tuple[str, ...], said: str
) -> None:
    code, _, err = run(words[0], gpt2, *words[1:])
    assert code == 0, err
    assert re.fullmatch(said, last(err))


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("repeat-features", "first", *REPEATS), "reading texts that repeat: 5 of 5 passes"),
        (("effects", "first", *MEASURED), "losses: 9 of 9 passes"),
        (("effects", "first", *MEASURED, *FEATURES), "tokens: 21 of 21 passes"),
    ],
)
def test_passes_of_a_dictionarys_texts_are_counted(
    run: Run, gpt2: str, trained_store: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "text.txt").write_text(" ".join(f"call {i} resumes where" for i in range(99)))
    code, _, err = run(*words, "--model", gpt2, "--store", str(trained_store))
    assert code == 0, err
    assert last(err) == said


@pytest.mark.usefixtures("watched")
def test_passes_of_a_circuit_of_features_are_counted(
    run: Run, gpt2: str, trained_store: Path
) -> None:
    words = ("--dictionary", "first", "--random", "3", "--store", str(trained_store))
    code, _, err = run("feature-circuit", gpt2, *OWN, *words)
    assert code == 0, err
    assert last(err) == "finding the circuit: 9 of 9 passes"


@pytest.mark.parametrize(
    "words", [("attention",), ("trace", *OWN, "--site", "h.0"), ("circuit", *OWN)]
)
def test_nothing_is_drawn_where_no_terminal_is(run: Run, gpt2: str, words: tuple[str, ...]) -> None:
    _, _, err = run(words[0], gpt2, *words[1:])
    assert not re.search(r"\d passes$|\x1b", err)


def test_the_passes_of_scores_are_those_that_the_command_expects(
    gpt2: str, watched: None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(gpt2, causal=True)
    known: list[tuple[Scoring, int, int]] = [("eap-ig", 5, 8), ("eap-ig", 2, 5), ("eap", 5, 4)]
    for way, steps, expected in known:
        with counted_passes(model, is_quiet=False) as announce:
            announce("scoring edges", expected)
            score_edges(model, induction_pairs(model, 2), way=way, steps=steps)
        assert last(capsys.readouterr().err) == f"scoring edges: {expected} of {expected} passes"


def test_more_passes_than_expected_stand_as_they_are_and_no_hook_stays(
    gpt2: str, watched: None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(gpt2, causal=True)

    def fails() -> None:
        with counted_passes(model, is_quiet=False) as announce:
            announce("working", 1)
            for _ in range(3):
                model.module(torch.ones(1, 2, dtype=torch.int64))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fails()
    assert last(capsys.readouterr().err) == "working: 3 of 3 passes"
    assert not model.module._forward_hooks
    assert not model.module._forward_pre_hooks


def test_passes_that_end_behind_a_site_count(
    gpt2: str, watched: None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(gpt2, causal=True)
    with (
        counted_passes(model, is_quiet=False) as announce,
        capture(model.module, ["h.0"], stop_early=True) as seen,
    ):
        announce("reading", 3)
        for _ in range(3):
            seen.run(torch.ones(1, 2, dtype=torch.int64))
    assert last(capsys.readouterr().err) == "reading: 3 of 3 passes"
