"""Commands for what a match is judged by."""

import json

from typer.testing import CliRunner

from isogloss.service.cli.main import app
from isogloss.universality.testing.ground_truth import KINDS


def test_bench_counts_right_answers_by_kind_for_people_and_programs() -> None:
    words = ["bench", "universality", "--seeds", "1", "--documents", "24"]
    told = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    found = json.loads(told.stdout)
    assert list(found) == list(KINDS)
    assert found["private"] == {"right": 40, "of": 40}
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "200"}, catch_exceptions=False).stdout
    for kind in KINDS:
        (line,) = [line for line in shown.splitlines() if line.startswith(f"{kind}  ")]
        assert str(found[kind]["right"]) in line.split()


def test_what_cannot_be_tried_is_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["bench", "speed"]).exit_code == 2
    assert CliRunner().invoke(app, ["floor", "d", "--how", "sideways"]).exit_code == 2
