"""Every limit of a server is an option, with the default that it has in Python."""

import inspect
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from isogloss.errors import InvalidInput, NotPermitted
from isogloss.service.cli import serve as command
from isogloss.service.cli.main import app
from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.jobs.limits import JobLimits
from isogloss.service.processes import keeping
from isogloss.service.processes.config import ServerConfig
from isogloss.service.server.call_limits import CallLimits
from isogloss.service.values.addresses import TOKEN_FILE_VARIABLE
from isogloss.service.values.upkeep import DAY_S

OTHERWISE = {
    "token": "is in the file of --token-file, or lies in the store",
    "limits": "its fields are options",
    "calls": "its fields are options",
    "jobs": "its fields are options in other units",
    "run_workers": "is --workers",
}
"""Settings without an option of their name, and why."""
GIVEN = {
    "drain_s": 1.5,
    "max_calls": 7,
    "streams": 3,
    "threads": 2,
    "query_threads": 1,
    "read_idle_s": 8.0,
    "read_total_s": 9.0,
    "part_idle_s": 4.0,
    "part_bytes_per_s": 99,
    "part_bytes": 10,
    "batch_bytes": 20,
    "window_bytes": 30,
    "held_bytes": 40,
    "group_bytes": 50,
    "sessions": 60,
    "idle_session_s": 7.5,
    "idle_lane_s": 0.5,
}


def settings() -> dict[str, Field[object]]:
    found = [*fields(ServerConfig), *fields(IngestLimits), *fields(CallLimits)]
    return {field.name: field for field in found if field.name not in OTHERWISE}


def test_every_setting_is_an_option_with_its_default() -> None:
    options = inspect.signature(command.serve).parameters
    defaults = {name: field.default for name, field in settings().items()}
    shown = {name: () if name == "listen" else options[name].default for name in defaults}
    assert MISSING not in defaults.values()
    assert shown == defaults
    assert options["workers"].default is ServerConfig().run_workers
    assert JobLimits() == JobLimits(
        workers=options["job_workers"].default,
        memory_bytes=options["job_memory"].default,
        time_s=3600 * options["job_time"].default,
        waiting=options["jobs_waiting"].default,
        keep_s=DAY_S * options["keep_days"].default,
        keep=options["keep_jobs"].default,
    )


def test_what_is_given_reaches_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ServerConfig]] = []

    def keep(store: object, config: ServerConfig, *, on_ready: object) -> int:
        seen.append((store, config))
        return 5

    monkeypatch.setattr(keeping, "keep_serving", keep)
    file = tmp_path / "secret"
    file.write_text("0123456789abcdef\n")
    file.chmod(0o600)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in GIVEN.items()]
    words += ["--job-workers=3", "--job-memory=0.5", "--job-time=2", "--jobs-waiting=4"]
    words += ["--keep-days=5", "--keep-jobs=6"]
    words += ["--token-file", str(file)]
    words += ["--no-workers", "--no-reflection", "--group", "lab", "--listen", "127.0.0.1:0"]
    done = CliRunner().invoke(app, ["serve", "--store", str(tmp_path / "s"), *words])
    assert done.exit_code == 5, done.output
    [(store, config)] = seen

    def of(kind: type) -> dict[str, Any]:
        return {field.name: GIVEN[field.name] for field in fields(kind) if field.name in GIVEN}

    assert store == str(tmp_path / "s")
    assert config == ServerConfig(
        listen=("127.0.0.1:0",),
        group="lab",
        token="0123456789abcdef",
        reflection=False,
        run_workers=False,
        jobs=JobLimits(
            workers=3, memory_bytes=1 << 29, time_s=7200, waiting=4, keep_s=5 * DAY_S, keep=6
        ),
        limits=IngestLimits(**of(IngestLimits)),
        calls=CallLimits(**of(CallLimits)),
        **of(ServerConfig),
    )
    assert {*GIVEN, "listen", "certificate", "key", "group", "reflection"} == {*settings()}


def test_a_token_file_may_stand_before_the_command_and_must_be_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    def keep(store: object, config: ServerConfig, *, on_ready: object) -> int:
        seen.append(config.token)
        return 0

    monkeypatch.setattr(keeping, "keep_serving", keep)
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, "of clients")  # is not the server's
    words = ["serve", "--store", str(tmp_path / "s")]
    for name in ("first", "second"):
        (tmp_path / name).write_text(f"{name:-<20}")
        (tmp_path / name).chmod(0o600)
    first, second = ("--token-file", str(tmp_path / "first")), str(tmp_path / "second")
    for line in (words, [*first, *words], [*first, *words, "--token-file", second]):
        assert CliRunner().invoke(app, line).exit_code == 0
    assert seen == [None, f"{'first':-<20}", f"{'second':-<20}"]
    (tmp_path / "first").chmod(0o644)
    with pytest.raises(NotPermitted, match=r"wanted 600.*give --token-file another one"):
        CliRunner().invoke(app, [*words, *first], catch_exceptions=False)


@pytest.mark.parametrize("word", ["--sessions=0", "--drain-s=-1", "--held-bytes=-5", "--streams=x"])
def test_limits_that_make_no_sense_are_wrong_usage(word: str) -> None:
    done = CliRunner().invoke(app, ["serve", word])
    assert done.exit_code == 2
    assert word.partition("=")[0] in done.output


def test_a_servers_address_is_no_store_to_serve() -> None:
    with pytest.raises(InvalidInput, match="give the path of a store"):
        CliRunner().invoke(app, ["serve", "--store", "unix:/s"], catch_exceptions=False)


def test_help_groups_the_limits() -> None:
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "120"}).output
    for panel in ("Where it listens", "Limits of batches", "Limits of calls", "Its processes"):
        assert panel in shown


def test_a_package_that_a_client_lacks_is_missed_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "_NEEDED", ("zarr", "isogloss_no_such_package"))
    with pytest.raises(ModuleNotFoundError, match="isogloss_no_such_package"):
        CliRunner().invoke(app, ["serve"], catch_exceptions=False)


@pytest.mark.parametrize("is_json", [False, True])
def test_where_the_token_lies_is_said_where_one_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_json: bool
) -> None:
    addresses = ["unix:/a/socket"]

    def keep(store: object, config: ServerConfig, *, on_ready: object) -> int:
        assert callable(on_ready)
        on_ready(addresses)
        return 0

    monkeypatch.setattr(keeping, "keep_serving", keep)
    words = ["serve", "--store", str(tmp_path / "s"), *(["--json"] if is_json else [])]
    said = CliRunner().invoke(app, words).output
    assert "token_file" not in said
    assert "the token in" not in said
    addresses.append("127.0.0.1:7447")
    said = CliRunner().invoke(app, words).output
    assert str(tmp_path / "s" / "token") in said.replace("\n", "")


def test_the_token_of_an_object_store_lies_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    found = command._token_file("s3://bucket/store")
    assert found.is_relative_to("/state/isogloss")
    assert found.name == "token"
