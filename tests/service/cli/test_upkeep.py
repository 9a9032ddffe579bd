"""Commands that look after a store, on a path and on a server, for people and for programs."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
from tests.service import planted
from tests.service.serving import server_on
from typer.testing import CliRunner

from isogloss.service.cli import main
from isogloss.service.cli.describe import size, write_description
from isogloss.service.values.results import RecordingInfo
from isogloss.service.values.upkeep import LaneInfo
from isogloss.store import Document, Revision, RowBatch, SiteSpec, StepInfo, Store
from isogloss.store.testing import sample_batch, sample_spec


class Commands:
    """Runs commands in this process, on one store."""

    def __init__(
        self,
        store: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.store = store
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: str, columns: int = 120) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["isogloss", *words])
        self._monkeypatch.setenv("ISOGLOSS_STORE", str(self.store))
        self._monkeypatch.setenv("COLUMNS", str(columns))
        code = 0
        try:
            main.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def said(self, *words: str, columns: int = 120) -> str:
        """Return standard output of a command that went well."""
        code, out, err = self(*words, columns=columns)
        assert (code, err) == (0, "")
        return out

    def answer(self, *words: str) -> dict[str, object]:
        """Return the JSON object of a command that went well."""
        return json.loads(self.said(*words, "--json"))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli-store") / "store"
    with Store.open(root) as store:
        planted.record(store, "small-docs", seed=1)
        planted.record(store, "large-docs", seed=2)
    return root


@pytest.fixture
def root(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "store"))


@pytest.fixture(params=["path", "server"])
def run(
    root: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Commands]:
    commands = Commands(root, monkeypatch, capsys)
    if request.param == "server":
        with server_on(root):
            yield commands
    else:
        yield commands


@pytest.fixture
def alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Commands:
    return Commands(root, monkeypatch, capsys)


def flip(root: Path, recording: str) -> None:
    """Flip one bit of the first activation of a recording."""
    with Store.attach(root) as store:
        directory = store.recording(recording).directory
    (shard,) = directory.glob("lanes/*/site-0/c/0/0")
    with shard.open("r+b") as file:
        file.seek(4096)
        byte = file.read(1)[0]
        file.seek(4096)
        file.write(bytes([byte ^ 1]))


def test_the_whole_care_of_a_recording_by_commands(run: Commands) -> None:
    description = run.said("describe", "small-docs")
    found = run.answer("describe", "small-docs")
    assert isinstance(found["recording"], dict)
    for text in (
        "made/up-small-docs",
        "9,600 in 1 lane",
        "layer.1",
        "float32",
        "sealed",
        "test:160",
    ):
        assert text in description
    assert str(found["recording"]["etag"]) in description
    assert found["rows"] == 9600
    assert found["steps"] == []
    assert "step" not in description
    assert run.said("verify", "small-docs") == ("9,600 rows of 1 recording are what was recorded\n")
    assert run.answer("verify") == {
        "recordings": ["large-docs", "small-docs"],
        "rows": 19_200,
        "problems": [],
    }
    done = run.answer("compress", "small-docs")
    assert done["sites"] == 1
    assert isinstance(done["bytes_before"], int)
    assert 0 < int(str(done["bytes_after"])) < done["bytes_before"]
    assert run.said("compress", "small-docs") == "recording small-docs: nothing to compress\n"
    assert "compressed" in run.said("describe", "small-docs")
    assert run.said("compact", "small-docs") == (
        "recording small-docs: no neighbouring short lanes to join\n"
    )
    assert run.said("gc") == "nothing to remove\n"
    assert run.answer("gc", "--older-s", "0") == {"files": 0, "logs": 0}


def test_quantising_by_command_must_be_meant_and_shows_its_error(alone: Commands) -> None:
    code, out, err = alone("quantise", "small-docs")
    assert (code, out) == (1, "")
    assert "to 8 bits a number, for good? nobody is here to answer: pass --accept-loss" in err
    said = alone.said("quantise", "small-docs", "--accept-loss")
    assert re.search(r"^layer\.1 +9,600 +0\.\d+ % rms, at most 0\.0\d+$", said, re.MULTILINE)
    described = alone.said("describe", "small-docs", columns=80)
    assert re.search(r"quantised +\d+ kB +0\.\d+ % rms", described)
    code, _, err = alone("quantise", "large-docs", "--site", "layer.9", "--accept-loss")
    assert code == 1
    assert "encoder.layer.2" in err
    done = alone.answer("quantise", "large-docs", "--accept-loss")
    assert isinstance(done["errors"], dict)
    assert list(done["errors"]) == ["encoder.layer.2"]


def test_rows_go_out_as_files_and_come_in_again(run: Commands, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run.said("export", "small-docs", str(out), "--form", "numpy")
    assert said == f"{out}: 9,600 rows of small-docs as numpy\n"
    made = run.answer("import", str(out), "--recording", "again")
    assert made["revision"] != run.answer("describe", "small-docs")["recording"]
    shown = [run.said("read", name, "--start", "100") for name in ("small-docs", "again")]
    assert shown[0] == shown[1]
    words = ["import", "--recording", "raw", "--model", "me", "--rows-per-document", "60"]
    words += ["--site", f"layer.1={out}/site-0.npy", "--token-id", f"{out}/token_id.npy"]
    for _ in range(2):
        assert run.said(*words) == "recording raw: 9,600 rows of layer.1\n"
    assert run.said("read", "raw", "--count", "1").splitlines()[1].split()[1].startswith("#")
    for arguments, code, message in (
        (("export", "small-docs", str(out)), 1, "exists: choose another place"),
        (("export", "lost", str(tmp_path / "x")), 1, "no recording 'lost'"),
        (("export", "small-docs", str(tmp_path / "x"), "--form", "parquet"), 2, "parquet"),
        (("import",), 2, "give the directory of an export, or files"),
        (("import", "--site", "a=b"), 2, "files need --recording"),
        ((*words, "--site", "nothing"), 2, "NAME=FILE"),
        (("import", str(tmp_path / "none")), 1, "none"),
    ):
        found, said, err = run(*arguments)
        assert (found, said) == (code, "")
        assert message in err


def test_damage_is_named_and_makes_the_exit_code_1(run: Commands, root: Path) -> None:
    flip(root, "small-docs")
    code, out, err = run("verify")
    assert (code, err) == (1, "")
    assert out.startswith("recording")
    assert "small-docs" in out
    assert "large-docs" not in out
    code, out, err = run("verify", "small-docs", "--json")
    assert (code, err) == (1, "")
    (problem,) = json.loads(out)["problems"]
    assert problem["recording"] == "small-docs"
    assert "do not match their checksum" in problem["message"]
    assert run("verify", "large-docs")[0] == 0


def test_rows_are_shown_with_their_tokens_or_saved(alone: Commands, tmp_path: Path) -> None:
    with Store.attach(alone.store) as store:
        wanted = store.recording("small-docs").reader().read("layer.1", 60, 63)
    shown = alone.said("read", "small-docs", "--start", "60", "--count", "3", columns=80)
    lines = shown.splitlines()
    assert lines[0].split()[:4] == ["row", "token", "position", "norm"]
    assert [line.split()[0] for line in lines[1:4]] == ["60", "61", "62"]
    assert lines[1].split()[1] == f"word{planted.words_of(1)[0]}"
    assert lines[1].split()[4] == f"{wanted[0, 0]:.3g}"
    assert max(map(len, lines)) <= 80
    assert lines[4].endswith("of 24 numbers a row; --output saves all")
    found = alone.answer("read", "small-docs", "--start", "60", "--count", "3")
    np.testing.assert_allclose(np.array(found["rows"]), wanted.astype(np.float64), rtol=1e-6)
    path = tmp_path / "rows.npy"
    alone.said("read", "small-docs", "--start", "60", "--count", "3", "--output", str(path))
    np.testing.assert_array_equal(np.load(path), wanted)


def test_deleting_asks_and_refuses_where_nobody_can_answer(
    alone: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = alone("delete", "small-docs")
    assert (code, out) == (1, "")
    assert "recording small-docs with its 9,600 rows? nobody is here to answer: pass --yes" in err
    for answer, wanted in (("n\n", 1), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", _Answering(answer))
        code, out, err = alone("delete", "small-docs")
        assert code == wanted
        assert "Delete recording small-docs with its 9,600 rows? [y/N]" in err
    assert out == "deleted recordings/small-docs\n"
    assert "no recording 'small-docs'" in alone("describe", "small-docs")[2]


class _Answering:
    """A terminal at which somebody types one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line


def test_deleting_takes_the_version_that_was_seen(alone: Commands) -> None:
    code, _, err = alone("delete", "small-docs", "--yes", "--etag", "old")
    assert code == 1
    assert "not old: it changed" in err
    recording = alone.answer("describe", "small-docs")["recording"]
    assert isinstance(recording, dict)
    words = ("delete", "small-docs", "--yes", "--etag", str(recording["etag"]))
    assert alone.answer(*words) == {"deleted": ["recordings/small-docs"]}
    for words, message in (
        (("delete", "small-docs", "--yes"), "no recording 'small-docs'"),
        (("delete", "dictionaries/lost", "--yes"), "no dictionary 'lost'"),
        (("delete", "probes/lost", "--yes"), "no probe 'lost'"),
        (("delete", "matches/lost", "--yes"), "no match 'lost'"),
        (("delete", "atlases/x", "--yes"), "cannot be deleted: give the id"),
    ):
        code, out, err = alone(*words)
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert message in err


def test_an_empty_store_has_nothing_to_verify_or_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Store.open(tmp_path / "new").close()
    commands = Commands(tmp_path / "new", monkeypatch, capsys)
    assert commands.said("verify") == "no recordings yet\n"
    assert commands.said("gc") == "nothing to remove\n"


def test_wrong_rows_and_sites_are_said_in_one_line(alone: Commands) -> None:
    for words, message in (
        (("read", "small-docs", "--start", "9600"), "choose --start below"),
        (("read", "small-docs", "--site", "layer.9"), "layer.1"),
        (("read", "small-docs", "--output", "/proc/no/rows.npy"), "choose --output"),
        (("verify", "lost"), "no recording 'lost'"),
        (("compress", "lost"), "no recording 'lost'"),
        (("compact", "lost"), "no recording 'lost'"),
    ):
        code, out, err = alone(*words)
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert message in err


def test_descriptions_fit_their_terminal_and_name_damage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sample_spec("r")
    lanes = [
        LaneInfo(
            name=f"{number:08d}.0123456789abcdef",
            rows=1_000_000,
            cursors={"rank-0": number},
            sealed=True,
            reason="recovered",
            damage="rows 5 to 9 of batch 3" if number == 30 else "",
            sites=(),
            stored_bytes=1_460_000_000,
        )
        for number in range(1, 31)
    ]
    revision = Revision(recording="0" * 24, lanes=tuple((lane.name, lane.rows) for lane in lanes))
    info = RecordingInfo(uid="0" * 24, etag="e", spec=spec, revision=revision, created=0.0)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # for rich: as on a terminal, which wraps
    monkeypatch.setenv("TERM", "dumb")
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        write_description(info, lanes)
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines if len(line) > columns] == []
        assert "  damage      1 lane, see below" in [line.rstrip() for line in lines]
        assert lines[-1].rstrip() == f"{lanes[-1].name}: rows 5 to 9 of batch 3"
        assert "10 earlier lanes not shown; --json shows all" in lines
        assert sum("recovered" in line for line in lines) == 20
        assert not any("step" in line for line in lines)
    steps = [StepInfo(step=50 * number, rows=1000 + number, documents=3) for number in range(25)]
    write_description(info, lanes, steps)
    lines = capsys.readouterr().out.splitlines()
    table = [line.split() for line in lines if line.split()[2:] == ["3"]]
    assert (table[0], table[-1]) == (["250", "1,005", "3"], ["1,200", "1,024", "3"])
    assert len(table) == 20
    assert "5 earlier steps from 0 on not shown; --json does" in lines


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (1_460_000_000, "1.46 GB"),
        (5 * 10**18, "5000 PB"),
    ],
)
def test_sizes_have_three_digits(count: int, wanted: str) -> None:
    assert size(count) == wanted


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_describe_names_how_many_rows_are_not_finite(
    alone: Commands, tmp_path: Path, dtype: Literal["float16", "bfloat16", "float32"], bad: float
) -> None:
    sites = tuple(SiteSpec(name=name, width=4, dtype=dtype) for name in ("fine", "odd"))
    spec = sample_spec("odd", sites=sites, has_spans=False)
    values = np.ones((9, 4), np.float32)
    values[[2, 5], 1] = bad
    text = Document.from_text("text")
    batch = RowBatch(
        producer="rank-0",
        sequence=1,
        sites={
            "fine": np.ones((9, 4), sites[0].numpy_dtype),
            "odd": values.astype(sites[1].numpy_dtype),
        },
        token_id=np.zeros(9, np.uint32),
        document=np.full(9, text.id, np.uint64),
        position=np.arange(9, dtype=np.uint32),
        documents=(text,),
    )
    alone.store = tmp_path / "odd"
    with Store.open(alone.store) as store, store.create_recording(spec, ["a"]).open_lane() as lane:
        lane.append([batch])
    (caution,) = cast("list[str]", alone.answer("describe", "odd")["cautions"])
    assert "site odd: 2 of 9 rows hold NaN or infinity" in caution
    assert ("65,504" in caution) == (dtype == "float16")
    assert "2 of 9 rows" in " ".join(alone.said("describe", "odd").split())


@pytest.mark.parametrize(
    ("huge_at", "said"),
    [
        ((0,), ("75 of 9,600 rows", "75 at position 0", "skip_first=1")),
        ((0, 2), ("150 of 9,600 rows", "75 at position 0, 75 at position 2", "skip_first=3")),
        ((64,), ("75 of 9,600 rows", "75 at later positions", "keep=")),
        ((), ()),
    ],
)
def test_describe_warns_of_few_rows_that_hold_most_of_the_variance(
    alone: Commands, tmp_path: Path, huge_at: tuple[int, ...], said: tuple[str, ...]
) -> None:
    spec = sample_spec("sinks", sites=(SiteSpec(name="h.6", width=16),), has_spans=False)
    values = np.random.default_rng(0).normal(0, 1, (9600, 16))
    values *= 5 / np.linalg.norm(values, axis=1, keepdims=True)
    position = np.arange(9600, dtype=np.uint32) % 128
    values[np.isin(position, huge_at)] *= 100
    documents = [Document.from_text(f"text {number}") for number in range(75)]
    batch = RowBatch(
        producer="rank-0",
        sequence=1,
        sites={"h.6": values.astype(spec.sites[0].numpy_dtype)},
        token_id=np.zeros(9600, np.uint32),
        document=np.repeat(np.array([document.id for document in documents], np.uint64), 128),
        position=position,
        documents=tuple(documents),
    )
    alone.store = tmp_path / "sinks"
    with Store.open(alone.store) as store, store.create_recording(spec, ["a"]).open_lane() as lane:
        lane.append([batch])
    cautions = alone.answer("describe", "sinks")["cautions"]
    assert isinstance(cautions, list)
    assert len(cautions) == (1 if said else 0)
    description = " ".join(alone.said("describe", "sinks").split())
    assert ("caution: site h.6" in description) == bool(said)
    for text in said:
        assert text in description
        assert text in str(cautions[0])


def test_rows_that_two_ranks_stored_are_shown_and_cautioned(tmp_path: Path) -> None:
    spec = sample_spec()
    with Store.open(tmp_path / "store") as opened:
        recording = opened.create_recording(spec, ["a"])
        batch = sample_batch(spec, "p", 1)
        with recording.open_lane() as lane:
            lane.append([replace(batch, producer=name, step=9) for name in ("rank-0", "rank-1")])
    words = ["describe", spec.recording, "--store", str(tmp_path / "store")]
    text = CliRunner().invoke(main.app, words, catch_exceptions=False).output
    assert "repeated rows" in text
    found = json.loads(
        CliRunner().invoke(main.app, [*words, "--json"], catch_exceptions=False).output
    )
    (caution,) = [one for one in found["cautions"] if "repeat" in one]
    assert caution.startswith(f"{batch.rows} rows of 1 training step (the first is 9)")
    assert found["steps"][0]["repeated_rows"] == batch.rows


def test_a_lane_that_is_missing_is_named_and_refused_until_it_is_given_up(run: Commands) -> None:
    with Store.attach(run.store) as store:
        recording = store.recording("small-docs")
        lane = recording.lanes()[-1]
        shutil.rmtree(recording.directory / "lanes" / lane.name)
    code, out, _ = run("verify", "small-docs", columns=400)
    assert (code, lane.name in out) == (1, True)
    assert f"is missing, with {lane.rows} rows" in out
    code, out, err = run("read", "small-docs", "--start", "0", "--count", "1")
    assert (code != 0, out) == (True, "")
    assert "isogloss give-up small-docs" in " ".join(err.split())
    code, out, err = run("give-up", "small-docs")
    assert (code != 0, "--accept-loss" in err) == (True, True)
    assert lane.name in run.said("give-up", "small-docs", "--accept-loss", columns=400)
    assert "no lane is missing" in run.said("give-up", "small-docs", "--accept-loss")
    run.said("verify", "small-docs")
    assert "lost" in run.said("lanes", "small-docs")
