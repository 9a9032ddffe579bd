"""Errors at the command line: 40 planted ones, and one that nobody expected."""

import sys
from pathlib import Path

import pytest
from hand_figures.planted_errors import PLANTED, Planted, environment_of, words_of
from hand_figures.raw_traceback import complaint
from hand_figures.situations import SITUATIONS, Situation, complaint_of, make_place

import isogloss.service.cli.main as cli


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("places")
    make_place(found)
    return found


def run_here(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["isogloss", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_there_are_forty_planted_errors() -> None:
    assert len({planted.name for planted in PLANTED}) == len(PLANTED) == 40


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_an_error_of_a_user_is_one_line_that_says_what_is_wrong(
    planted: Planted,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment_of(planted, place).items():
        monkeypatch.setenv(name, value)
    code = run_here(words_of(planted, place), monkeypatch)
    said = capsys.readouterr()
    assert not complaint(planted, place, code, said.out, said.err), said.err


def test_an_error_that_nobody_expected_is_one_line_and_shown_whole_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(prog_name: str) -> None:
        raise ZeroDivisionError("a defect\nin two lines")

    monkeypatch.setattr(cli, "app", fail)
    assert run_here([], monkeypatch) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: a defect in isogloss, ZeroDivisionError: a defect in two lines")
    assert said.count("\n") == 1
    monkeypatch.setenv(cli.TRACEBACK_VARIABLE, "1")
    with pytest.raises(ZeroDivisionError):
        cli.main()


QUICK = {
    "a full device for JSON",
    "a reader that left",
    "no standard error",
    "Ctrl-C at once",
    "Ctrl-C while a job runs",
}


@pytest.mark.parametrize(
    "situation",
    [
        pytest.param(one, id=one.name, marks=[] if one.name in QUICK else [pytest.mark.slow])
        for one in SITUATIONS
    ],
)
def test_what_is_around_a_command_never_ends_in_a_traceback(
    situation: Situation, place: Path
) -> None:
    ended = situation.make(place)
    assert not complaint_of(situation, ended), ended
