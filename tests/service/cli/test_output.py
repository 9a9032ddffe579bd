"""What the command line writes: JSON for programs, tables for people."""

import importlib.util
import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from isogloss.errors import InvalidInput, MissingExtra
from isogloss.service.cli.output import (
    TableForm,
    cell,
    plain,
    progress,
    time_of,
    when,
    write_json,
    write_list,
    write_table,
)


@dataclass(frozen=True, kw_only=True)
class Found:
    r: float
    names: tuple[str, ...]


def test_results_become_json_objects_and_what_json_lacks_becomes_null_or_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_json({1: Found(r=float("nan"), names=("ä", "b")), "bytes": b"\x01\xff"})
    said = capsys.readouterr().out
    assert json.loads(said) == {"1": {"r": None, "names": ["ä", "b"]}, "bytes": "01ff"}
    assert "ä" in said
    assert plain(float("-inf")) is None
    assert plain(Path("a/b")) == "a/b"
    assert [plain(value) for value in (True, 2, 0.5, None)] == [True, 2, 0.5, None]
    assert plain(Found) == str(Found)


def test_a_table_puts_numbers_to_the_right_and_reads_no_name_as_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    write_table(("id", "rows"), [("[red]a[/]", 12_000), ("b", 7)], "none")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["id           rows", "[red]a[/]  12,000", "b               7"]


def test_a_table_without_rows_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("id",), [], "no [recordings] yet")
    assert capsys.readouterr().out == "no [recordings] yet\n"


def test_a_cell_is_written_for_people() -> None:
    values = (True, False, 0.25, float("nan"), 1_234_567, "text")
    assert [cell(value) for value in values] == ["yes", "", "0.250", "–", "1,234,567", "text"]


def test_a_small_number_is_not_shown_as_zero() -> None:
    values = (0.0, 0.0005, 0.00049, -2e-7, 1e-300)
    assert [cell(value) for value in values] == [
        "0.000",
        "0.001",
        "4.9e-04",
        "-2.0e-07",
        "1.0e-300",
    ]


def test_a_time_is_written_to_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.localtime", time.gmtime)
    assert when(1_790_000_000) == "2026-09-21 14:13"


def test_no_bar_is_drawn_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    for is_quiet in (True, False):  # standard error is no terminal here
        with progress(is_quiet=is_quiet) as show:
            show("working", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_what_is_done_of_what_there_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with progress(is_quiet=False) as show:
        show("[b]lane", 3, 4)
    said = capsys.readouterr().err
    assert "[b]lane" in said
    assert "75%" in said


def test_a_bar_forgets_how_much_there_was_and_goes_on_with_the_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    with progress(is_quiet=False) as show:
        show("first", 4, 4)
        time.sleep(1.1)
        show("second", 3, 0)
    said = capsys.readouterr().err
    last = said[said.rindex("second") :]
    assert "75%" not in last
    assert "100%" not in last
    assert "0:00:00" not in last
    with progress(is_quiet=False) as show:
        show("first", 4, 0)
        show("second", 3, 6)
    assert "50%" in capsys.readouterr().err


ROWS = [
    ("a-long-id-that-nobody-may-break", 0.25, True, time_of(1.5)),
    ("b", float("nan"), False, time_of(2.5)),
]
TITLES = ("id", "given token", "mutual", "made")


def test_a_table_as_values_has_them_whole(capsys: pytest.CaptureFixture[str]) -> None:
    write_list(TableForm(is_csv=True), [], TITLES, ROWS, "none")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "id,given_token,mutual,made"
    assert second == f"a-long-id-that-nobody-may-break,0.25,true,{time_of(1.5).isoformat()}"
    assert third.startswith("b,,false,")
    write_list(TableForm(is_csv=True), [], ("text",), [('a "b",\nc',), ((1, 2),)], "none")
    assert capsys.readouterr().out == 'text\n"a ""b"",\nc"\n"[1, 2]"\n'


def test_one_form_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="exclude one another"):
        TableForm(is_json=True, is_csv=True)
    assert TableForm(parquet=tmp_path).is_for_programs
    assert not TableForm().is_for_programs


def test_a_parquet_file_holds_the_types(tmp_path: Path) -> None:
    form = TableForm(parquet=tmp_path / "t.parquet")
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(MissingExtra, match=r"isogloss\[parquet\]"):
            write_list(form, [], TITLES, ROWS, "none")
        return
    write_list(form, [], TITLES, ROWS, "none")
    found = importlib.import_module("pyarrow.parquet").read_table(form.parquet).to_pylist()
    assert found[0] == dict(zip(("id", "given_token", "mutual", "made"), ROWS[0], strict=True))
    assert found[1]["given_token"] is None
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_list(TableForm(parquet=tmp_path), [], TITLES, ROWS, "none")


def test_a_piped_table_is_never_wrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    write_table(("id", "text"), [("a" * 40, "some words " * 30)], "none")
    (_, row) = capsys.readouterr().out.splitlines()
    assert row.split() == ["a" * 40, *("some words " * 30).split()]


def test_a_terminal_wraps_text_and_breaks_no_id(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    write_table(("id", "text"), [("id-" * 15, "some words " * 9)], "none")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert sum("id-" * 15 in line for line in lines) == 1
