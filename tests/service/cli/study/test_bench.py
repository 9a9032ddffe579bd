"""`isogloss bench`: tables of kinds and of labels on data of known truth."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from isogloss.errors import InvalidInput
from isogloss.service.cli.main import app
from isogloss.universality.testing.ground_truth import KINDS

SMALL = ["--planted", "16", "--width", "12", "--fires", "1.5", "--rows", "8192", "--epochs", "1"]


def bench(*words: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(app, ["bench", "synthetic", *SMALL, *words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["trials"]


def test_each_world_has_a_row_for_each_kind() -> None:
    found = bench("--kind", "topk", "--kind", "gated", "--world", "zipf", "--world", "hierarchical")
    assert [(row["world"], row["kind"]) for row in found] == [
        *(("zipf", "topk"), ("zipf", "gated")),
        *(("hierarchical", "topk"), ("hierarchical", "gated")),
    ]
    for row in found:
        for score in ("recovered", "mcc", "precision", "recall", "f1"):
            value = row[score]
            assert isinstance(value, float)
            assert 0 <= value <= 1


def test_people_get_a_table() -> None:
    words = ["bench", "synthetic", *SMALL, "--kind", "topk", "--world", "uniform"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "recovered" in done.stdout
    assert "uniform" in done.stdout
    listed = CliRunner().invoke(app, [*words, "--csv"])
    (row,) = csv.DictReader(io.StringIO(listed.stdout))
    assert (row["world"], row["kind"]) == ("uniform", "topk")
    assert 0 <= float(row["mcc"]) <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--world", "unifrom"], "world 'unifrom' is none of uniform, zipf"),
        (["--kind", "topq"], "kind 'topq' is none of batch_topk"),
        (["--rows", "5000"], "multiple of 4,096"),
        (["--fires", "50"], "at most half"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["bench", "synthetic", *SMALL, *words])
    assert isinstance(done.exception, InvalidInput)
    assert said in str(done.exception)


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
    listed = CliRunner().invoke(app, [*words, "--csv"], catch_exceptions=False).stdout
    rows = {row["features"]: int(row["right"]) for row in csv.DictReader(io.StringIO(listed))}
    assert rows == {kind: one["right"] for kind, one in found.items()}


def test_only_what_there_is_can_be_measured() -> None:
    assert CliRunner().invoke(app, ["bench", "speed"]).exit_code == 2
    shown = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "200"}).output
    assert "synthetic" in shown
    assert "universality" in shown
