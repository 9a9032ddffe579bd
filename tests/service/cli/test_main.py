"""The command line, run as users run it: a process for each call."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.text import Text
from tests.models.conftest import SENTENCES
from tests.service import planted
from tests.service.cli.flags import flags_on
from tests.tiny_models import save_tiny_bert
from typer.core import TyperArgument, TyperCommand, TyperGroup

import isogloss.service.cli.main as cli
from isogloss.service.client.connect import connect
from isogloss.store import Store
from isogloss.version import __version__

MAIN = (sys.executable, "-c", "from isogloss.service.cli.main import main; main()")
SERVE = f"""
from isogloss.service.cli.main import main
from isogloss.service.jobs.processes import watch_parent
watch_parent({os.getpid()})
main()
"""


def isogloss(*words: str, store: Path | str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "160", "OMP_WAIT_POLICY": "passive"}
    if store is not None:
        environment["ISOGLOSS_STORE"] = str(store)
    return subprocess.run(
        [*MAIN, *words], capture_output=True, text=True, timeout=600, check=False, env=environment
    )


class Here:
    """The command line run in this process, which spares starting one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str, store: Path | str = "none") -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["isogloss", *words])
        self._monkeypatch.setenv("ISOGLOSS_STORE", str(store))
        self._monkeypatch.setenv("COLUMNS", "160")
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(monkeypatch, capsys)


def answer(*words: str, store: Path) -> object:
    """Run a command with --json and return what it wrote."""
    ended = isogloss(*words, "--json", store=store)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with two recordings and a server on it, ended by SIGTERM."""
    root = tmp_path_factory.mktemp("cli") / "store"
    with Store.open(root) as store:
        planted.record(store, "small-docs", seed=1)
        planted.record(store, "large-docs", seed=2)
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, "serve", "--store", str(root), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    said = ""
    while not said.endswith("}\n"):
        line = server.stdout.readline()
        assert line, "the server ended before it was ready"
        said += line
    assert json.loads(said)["store"] == str(root)
    yield root
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    server.stdout.close()


def test_info_shows_what_answers_for_a_store(served: Path, tmp_path: Path, here: Here) -> None:
    code, said, _ = here("info", store=served)
    assert code == 0
    words = ("version", f"unix:{served}", "train, probe, match", "run jobs", "16.8 MB")
    for word in (*words, "control: process ", "query: "):
        assert word in said
    Store.open(tmp_path / "own").close()
    code, said, _ = here("info", "--json", store=tmp_path / "own")
    found = json.loads(said)
    assert (code, found["addresses"], found["runs_workers"]) == (0, [], False)


@pytest.fixture(scope="module")
def matched(served: Path) -> Path:
    """The same after the whole path, walked by commands."""
    for recording, name in (("small-docs", "small"), ("large-docs", "large")):
        spec = planted.train_spec(recording, name)
        site = str(spec["site"])
        made = answer(
            *("train", recording, "--site", site, "--features", "40", "--k", "3"),
            *("--epochs", "12", "--dictionary", name),
            store=served,
        )
        assert isinstance(made, dict)
        assert (made["id"], made["recording"], made["site"]) == (name, recording, site)
    made = answer("match", "small", "large", "--match", "both", store=served)
    assert isinstance(made, dict)
    assert made["pairs"] > 0
    return served


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    ended = isogloss("--help")
    assert ended.returncode == 0
    for command in [
        "serve",
        "record",
        "recordings",
        "train",
        "dictionaries",
        "nearest",
        "match",
        "matches",
        "report",
    ]:
        assert command in ended.stdout
    code = (
        "import sys, isogloss.service.cli.main;"
        "heavy = {'torch', 'faiss', 'zarr', 'grpc', 'numba', 'numpy'} & set(sys.modules);"
        "sys.exit(bool(heavy) or len(sys.modules) > 300)"  # 163 of them: a count, not a time
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_path_from_recording_to_report_works_by_commands(matched: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "page.html"
    ended = isogloss("report", "--output", str(page), store=matched)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(page)
    assert page.read_text(encoding="utf-8").count('<section class="match" id="match-both">') == 1
    table = tmp_path / "out" / "pairs.csv"
    told = answer(
        "export-match", "both", str(table), "--figures", str(tmp_path / "svg"), store=matched
    )
    assert isinstance(told, dict)
    beside = json.loads((tmp_path / "out" / "pairs.provenance.json").read_text())
    assert told["provenance"] == beside
    pairs = answer("matches", store=matched)
    assert isinstance(pairs, list)
    assert len(table.read_text().splitlines()) == 1 + pairs[0]["pairs"]
    assert "best-r.svg" in {path.name for path in (tmp_path / "svg").iterdir()}
    hits = answer("nearest", "small", "0", "--among", "large", "--count", "2", store=matched)
    assert isinstance(hits, list)
    assert [hit["dictionary"] for hit in hits] == ["large"] * len(hits)


def test_lists_are_tables_for_people_and_json_for_programs(matched: Path, here: Here) -> None:
    for command, wanted in (
        ("recordings", ["small-docs", "made/up-small-docs", "9,600", "layer.1"]),
        ("dictionaries", ["small", "large", "40"]),
        ("matches", ["both", "probe-"]),
        ("jobs", ["train", "match", "SUCCEEDED", "dictionaries/small"]),
    ):
        code, out, err = here(command, store=matched)
        assert (code, err) == (0, "")
        for text in wanted:
            assert text in out, (command, out)
        code, out, err = here(command, "--json", store=matched)
        assert (code, err) == (0, "")
        assert len(json.loads(out)) > 0


def test_a_detached_job_is_named_waited_for_and_cancelled(matched: Path) -> None:
    words = ("train", "small-docs", "--site", "layer.1", "--features", "16", "--k", "2")
    job = answer(*words, "--epochs", "100000", "--detach", store=matched)
    assert isinstance(job, dict)
    assert job["state"] in ("QUEUED", "STARTING", "RUNNING")
    ended = answer("jobs", str(job["name"]), "--cancel", store=matched)
    assert isinstance(ended, dict)
    assert ended["state"] == "CANCELLED"


def test_an_error_of_ours_is_one_line_with_its_remedy_and_exit_code_1(
    matched: Path, here: Here
) -> None:
    for words, message in (
        (("nearest", "lost", "0", "--among", "large"), "no dictionary 'lost'"),
        (("nearest", "small", "4000", "--among", "large"), "[0, 40)"),
        (("train", "small-docs", "--site", "layer.9", "--features", "8"), "layer.1"),
        (("train", "lost", "--site", "layer.9", "--features", "8"), "lost"),
        (("match", "small", "small"), "both dictionaries are 'small'"),
        (("report", "lost"), "no match 'lost'"),
        (("report", "--output", "/proc/no/report.html"), "choose --output"),
        (("jobs", "train-0"), "no job 'train-0'"),
    ):
        code, out, err = here(*words, store=matched)
        assert code == 1, (words, out, err)
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert message in err
    ended = isogloss("report", "lost", store=matched)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr


def test_wrong_usage_is_exit_code_2(here: Here) -> None:
    for words in (
        ("train", "small-docs", "--features", "many", "--site", "s"),
        ("train", "small-docs"),
        ("jobs", "--cancel"),
        ("record", "packaged:minilm-l6"),
        ("record", "packaged:minilm-l6", "--site", "layer.1"),
        ("fly",),
    ):
        code, _, err = here(*words)
        assert code == 2, (words, err)
        assert "Usage" in err


def test_a_path_that_nobody_serves_is_opened_by_the_command_itself(
    tmp_path: Path, here: Here
) -> None:
    store = tmp_path / "alone"
    Store.open(store).close()
    assert here("recordings", "--json", store=store) == (0, "[]\n", "")
    assert here("matches", store=store) == (0, "no matches yet\n", "")
    code, _, err = here("report", store=store)
    assert code == 1
    assert "make one with `isogloss match A B`" in err


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("models") / "tiny", seed=0, width=32)


def test_texts_are_recorded_once_at_each_step_and_described(
    tiny_model: Path, tmp_path: Path, here: Here
) -> None:
    store, text = tmp_path / "store", tmp_path / "a.txt"
    text.write_text("\n\n".join(SENTENCES))
    words = ["record", str(tiny_model), str(text)]
    words += ["--site", "encoder.layer.0", "--recording", "tiny"]
    rows: list[int] = []
    for step in ("0", "0", "250", "250"):
        code, _, err = here(*words, "--step", step, "--json", store=store)
        assert code == 0, err
        described = json.loads(here("describe", "tiny", "--json", store=store)[1])
        rows.append(described["rows"])
    assert rows == [rows[0], rows[0], 2 * rows[0], 2 * rows[0]]
    assert [found["step"] for found in described["steps"]] == [0, 250]
    assert {found["rows"] for found in described["steps"]} == {rows[0]}
    shown = here("describe", "tiny", store=store)[1]
    assert re.search(rf"step +rows +documents\n +0 +{rows[0]} .*\n +250 +{rows[0]} ", shown)
    code, _, err = here(*words, "--step", "-1", store=store)
    assert code == 1
    assert "step is -1" in err


def test_what_is_recorded_of_texts_is_chosen_on_the_command_line(
    tiny_model: Path, tmp_path: Path, here: Here
) -> None:
    store, text = tmp_path / "store", tmp_path / "a.txt"
    text.write_text("\n\n".join(SENTENCES))
    words = ["record", str(tiny_model), str(text), "--site", "encoder.layer.0", "--words", "8"]
    counts: dict[str, int] = {}
    for options in ("", "--skip-first 2", "--sample 0.5", "--call 0"):
        chosen = ["--recording", f"r{len(counts)}", *options.split()]
        code, _, err = here(*words, *chosen, "--json", store=store)
        assert code == 0, err
        described = json.loads(here("describe", f"r{len(counts)}", "--json", store=store)[1])
        counts[options] = described["rows"]
    whole = counts[""]
    assert counts["--call 0"] == whole
    assert 0 < counts["--sample 0.5"] < whole
    assert 0 < counts["--skip-first 2"] < whole
    for odd, said in (("--sample 2", "sample is 2"), ("--skip-first -1", "skip_first is -1")):
        code, _, err = here(*words, "--recording", "odd", *odd.split(), store=store)
        assert code == 1
        assert said in err


def test_a_model_on_disk_is_recorded_over_text_files_and_recorded_again_adds_nothing(
    tiny_model: Path, tmp_path: Path, here: Here
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(SENTENCES), encoding="utf-8")
    store = tmp_path / "store"
    words = ["record", str(tiny_model), str(text)]
    words += ["--site", "encoder.layer.*", "--recording", "tiny"]
    made = answer(*words, store=store)
    code, out, err = here("recordings", "--json", store=store)
    assert (code, err) == (0, "")
    (listed,) = json.loads(out)
    assert listed == made
    assert listed["spec"]["recording"] == "tiny"
    assert listed["spec"]["model"]["name"] == "tiny"
    assert listed["spec"]["corpus"] == "text.txt"
    sites = [(site["name"], site["width"]) for site in listed["spec"]["sites"]]
    assert sites == [("encoder.layer.0", 32), ("encoder.layer.1", 32)]
    with Store.attach(store) as opened:
        reader = opened.recording("tiny").reader()
        assert reader.rows > 20
        documents = reader.documents().values()
        assert [document.text for document in documents] == [text.read_text(encoding="utf-8")]
    code, out, err = here(*words, store=store)
    assert (code, err) == (0, "")
    assert out == f"recording tiny: {reader.rows:,} rows at 2 site(s)\n"


def test_commands_that_need_no_job_leave_the_queue_alone(tmp_path: Path, here: Here) -> None:
    store = tmp_path / "store"
    with Store.open(store) as opened:
        planted.record(opened, "small-docs", seed=1)
    with connect(store, run_workers=False) as client:
        job = client.train("small-docs", site="layer.1", features=8, k=2)
    for words in (
        ("recordings",),
        ("dictionaries",),
        ("matches",),
        ("jobs",),
        ("jobs", job.name),
        ("report",),
        ("nearest", "small", "0", "--among", "large"),
    ):
        here(*words, store=store)
    code, out, err = here("jobs", job.name, "--json", store=store)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["state"], found["attempt"]) == ("QUEUED", 0)


def test_no_server_at_an_address_is_said(tmp_path: Path, here: Here) -> None:
    code, _, err = here("recordings", store=f"unix:{tmp_path}/none.sock")
    assert code == 1
    assert err.startswith("error: ")


def test_texts_come_from_files_and_folders_without_repeats(tmp_path: Path) -> None:
    from isogloss.errors import InvalidInput, NotFound
    from isogloss.service.cli.texts import read_texts

    words = " ".join(f"word{n}" for n in range(300)) + "."
    (tmp_path / "a.txt").write_text(words)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.md").write_text("Another text. " * 20)
    (tmp_path / "folder" / "copy.md").write_text("Another text. " * 20)
    (tmp_path / "folder" / "c.bin").write_bytes(b"\xff\xfe")
    found = read_texts([tmp_path / "a.txt", tmp_path / "folder"], standard_library=False, words=64)
    assert {document.group for document in found} == {
        str(tmp_path / "a.txt"),
        str(tmp_path / "folder" / "b.md"),
    }
    assert len({document.text for document in found}) == len(found) > 4
    for paths, error, message in (
        ([], InvalidInput, "no text to record"),
        ([tmp_path / "lost.txt"], NotFound, "lost.txt"),
        ([tmp_path / "folder" / "c.bin"], InvalidInput, "not UTF-8"),
    ):
        with pytest.raises(error, match=message):
            read_texts(paths, standard_library=False, words=64)


def test_every_command_has_json_and_a_sentence_of_help() -> None:
    for command in cli.app.registered_commands:
        assert command.callback is not None
        assert "is_json" in command.callback.__annotations__, command.callback.__name__
        assert command.callback.__doc__


def test_the_version_is_told(here: Here) -> None:
    assert here("--version") == (0, f"isogloss {__version__}\n", "")


def test_help_shows_every_command_in_one_panel_in_the_order_of_a_newcomer(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [
        command.name or str(getattr(command.callback, "__name__", ""))
        for command in cli.app.registered_commands
    ]
    assert names == [name for panel in cli.PANELS.values() for name in panel]
    assert len(names) == len(set(names))
    code, out, _ = here("--help")
    assert code == 0
    places = [out.index(panel) for panel in cli.PANELS]
    assert places == sorted(places)
    first = [line.split()[1] for line in out.splitlines() if line[:1] == "\u2502"]
    assert [word for word in first if word in names] == names


def test_help_of_each_command_is_one_line_at_80_columns(here: Here) -> None:
    longest = max(len(name) for panel in cli.PANELS.values() for name in panel)
    for command in cli.app.registered_commands:
        first = str(getattr(command.callback, "__doc__", "")).partition("\n\n")[0]
        assert len(" ".join(first.split())) <= 80 - longest - 6, first


def every_command() -> dict[tuple[str, ...], TyperCommand]:
    """Return the commands, by their words."""
    found: dict[tuple[str, ...], TyperCommand] = {}
    groups: dict[tuple[str, ...], object] = {(): typer.main.get_command(cli.app)}
    while groups:
        words, group = groups.popitem()
        assert isinstance(group, TyperGroup)
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                groups[*words, name] = command
            else:
                assert isinstance(command, TyperCommand)
                found[*words, name] = command
    return found


def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    here: Here, tmp_path: Path
) -> None:
    tried = 0
    for words, command in every_command().items():
        if words in (("effects",), ("report",)):  # they make the folder
            continue
        needed = [one for one in command.params if one.required]
        wanted = [
            word
            for one in needed
            for word in (["1"] if isinstance(one, TyperArgument) else [one.opts[0], "1"])
        ]
        for one in command.params:
            if {"--output", "--plot", "--graph", "--parquet"} & {*one.opts}:
                option = max(one.opts, key=len)
                for path, said in (("no/such/x", "there is no folder"), (".", "it is a folder")):
                    code, out, err = here(
                        *(*words, *wanted, option, str(tmp_path / path)), store=tmp_path / "none"
                    )
                    assert (code, out) == (1, ""), (words, option, err)
                    assert said in err
                    tried += 1
    assert tried > 30
    assert not (tmp_path / "none").exists()


def test_no_word_of_help_is_taken_for_markup() -> None:
    told = [part for command in every_command().values() for part in (command, *command.params)]
    texts = [str(getattr(part, "help", None) or "") for part in told]
    assert len(texts) > 200
    assert [text for text in texts if Text.from_markup(text).plain != text] == []


def test_options_without_which_a_command_does_nothing_are_marked_as_required(here: Here) -> None:
    for command, options in (("record", ("--site", "--recording")), ("train", ("--site",))):
        _, out, _ = here(command, "--help")
        for option in options:
            line = next(line for line in out.splitlines() if option in line.split())
            assert line.split()[1] == "*", line


def test_no_command_does_more_or_writes_otherwise_than_it_was_asked_to() -> None:
    assert flags_on() == {"serve --reflection", "serve --workers", "serve --restart"}
