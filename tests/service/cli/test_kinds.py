"""Settings of a kind as they are written in a command, and the list of kinds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isogloss.errors import InvalidInput
from isogloss.service.cli.kinds import each_of, quality, read_settings, read_sources
from isogloss.service.cli.main import app
from isogloss.service.jobs.queue import JobTable
from isogloss.service.values.results import SiteRef
from isogloss.store import Store
from isogloss.store.testing import sample_spec


def test_a_setting_is_json_or_else_text() -> None:
    given = ["l1=0.02", "steps=3", "fast=true", "name=relu", "path=a=b", "of=[1, 2]", "none=null"]
    assert read_settings(given) == {
        "l1": 0.02,
        "steps": 3,
        "fast": True,
        "name": "relu",
        "path": "a=b",
        "of": [1, 2],
        "none": None,
    }


@pytest.mark.parametrize("given", [["l1"], ["=3"], ["l1=1", "l1=2"]])
def test_what_is_no_setting_is_refused(given: list[str]) -> None:
    with pytest.raises(InvalidInput, match="--set"):
        read_settings(given)


def test_kinds_are_listed_for_people_and_for_programs(tmp_path: Path) -> None:
    Store.open(tmp_path / "store").close()
    store = ["--store", str(tmp_path / "store")]
    shown = CliRunner().invoke(app, ["kinds", *store], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "topk" in shown.stdout
    assert "k=32" in shown.stdout
    assert "wirings: crosscoder, sae, transcoder" in shown.stdout
    listed = json.loads(CliRunner().invoke(app, ["kinds", *store, "--json"]).stdout)
    (kind,) = [kind for kind in listed["kinds"] if kind["is_default"]]
    assert kind["schema"]["properties"]["k"]["minimum"] == 1
    assert listed["wirings"] == ["crosscoder", "sae", "transcoder"]


def _queued(store: Path, *words: str) -> dict[str, object]:
    """Queue a training by a command, and return the spec of its job."""
    where = ["--detach", "--store", str(store), "--json"]
    some = ["--features", "8", "--k", "2"]
    ended = CliRunner().invoke(app, ["train", *words, *some, *where], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    with Store.open(store) as opened:
        table = JobTable.of(opened)
        (record,) = list(table.all())
        table.close()
    return dict(record.spec)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, list[str]]:
    """A store with two recordings of the same two sites, and the names of the sites."""
    spec = sample_spec()
    with Store.open(tmp_path / "store") as opened:
        for name in ("one", "two"):
            opened.create_recording(replace(spec, recording=name), ["a"])
    return tmp_path / "store", [site.name for site in spec.sites]


def test_target_makes_a_transcoder_from_the_site_to_it(recorded: tuple[Path, list[str]]) -> None:
    store, (first, second, *_) = recorded
    spec = _queued(store, "one", "--site", first, "--target", second)
    config = spec["config"]
    assert isinstance(config, dict)
    assert config["wiring"] == "transcoder"
    assert spec["sources"] == [
        {"recording": "one", "site": first},
        {"recording": "one", "site": second},
    ]


def test_also_and_a_second_site_bring_further_sources(recorded: tuple[Path, list[str]]) -> None:
    store, (first, second, *_) = recorded
    words = ("--site", first, "--site", second, "--also", f"two:{first}", "--wiring", "crosscoder")
    spec = _queued(store, "one", *words, "--set", "dedicated=0.1")
    assert spec["sources"] == [
        {"recording": "one", "site": first},
        {"recording": "one", "site": second},
        {"recording": "two", "site": first},
    ]
    config = spec["config"]
    assert isinstance(config, dict)
    assert config["settings"]["dedicated"] == 0.1


def test_leave_out_and_control_reach_the_job(recorded: tuple[Path, list[str]]) -> None:
    store, (first, *_) = recorded
    given = ("--leave-out", "max_norm=20", "--leave-out", "document_starts=true")
    controls = ("--control", "frozen_decoder", "--control", "frozen_encoder")
    spec = _queued(store, "one", "--site", first, *given, *controls)
    config = spec["config"]
    assert isinstance(config, dict)
    assert config["leave_out"] == {"max_norm": 20, "document_starts": True}
    assert config["controls"] == ["frozen_decoder", "frozen_encoder"]


def test_the_start_reaches_the_job_and_one_that_no_job_has_is_refused(
    recorded: tuple[Path, list[str]],
) -> None:
    store, (first, *_) = recorded
    with pytest.raises(InvalidInput, match=r"init\.directions is 'given' and init\.dictionary ''"):
        _queued(store, "one", "--site", first, "--init", "directions=given")
    spec = _queued(store, "one", "--site", first, "--init", "directions=rows")
    config = spec["config"]
    assert isinstance(config, dict)
    assert config["init"] == {"directions": "rows"}


def test_repeated_options_give_every_combination() -> None:
    several: dict[str, list[object] | None] = {"features": [8, 16], "k": [2, 4], "kind": None}
    assert each_of({"epochs": 1.0}, several) == [
        {"epochs": 1.0, "features": features, "k": k} for features in (8, 16) for k in (2, 4)
    ]
    with pytest.raises(InvalidInput, match="give each value once"):
        each_of({}, {"features": [8, 8]})


@pytest.mark.parametrize("text", ["two", "two:", ":layer.2"])
def test_a_source_without_recording_or_site_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="RECORDING:SITE"):
        read_sources("one", ["layer.2"], [text], None)


def test_sources_stand_in_the_order_site_also_target() -> None:
    found = read_sources("one", ["a"], ["two:b:c"], "d")
    assert found == [
        SiteRef(recording="one", site="a"),
        SiteRef(recording="two", site="b:c"),
        SiteRef(recording="one", site="d"),
    ]


def test_the_figure_of_usual_rows_is_said_where_some_rows_are_not() -> None:
    metrics = {"fvu": 0.1, "usual_fvu": 0.3, "rows": 100.0, "usual_rows": 90.0}
    whole = ", 90.0 % of held-out variance explained"
    assert quality(metrics) == f"{whole}, 70.0 % of that of usual rows"
    assert quality({**metrics, "usual_rows": 100.0}) == whole
    assert "usual" not in quality({**metrics, "usual_rows": 100.0})
    assert quality({}) == ""
