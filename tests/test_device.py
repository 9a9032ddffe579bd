"""The lane of a device without one: it runs on a bare machine, and a hang costs only itself."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from device_figures.records import read_records
from device_figures.runner import Job, Runner, python
from device_figures.summary import figures
from kernels_figures.work import executed

ROOT = Path(__file__).parents[1]
BARE = Path(__file__).with_name("bare_machine.py")


def bare(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run with little installed, from the root of the checkout."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name != "TRITON_INTERPRET" and not name.startswith(("PYTEST", "PYTHON"))
    }
    return subprocess.run(
        [sys.executable, str(BARE), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**clean, **options},
        timeout=850,
    )


@pytest.mark.timeout(900)
def test_the_lane_runs_dry_on_a_bare_machine(tmp_path: Path) -> None:
    arguments = ["--device", "cpu", "--directory", str(tmp_path), "--json", "--budget", "800"]
    arguments += ["--through", str(BARE)]
    done = bare(str(ROOT / "benchmarks" / "device.py"), *arguments)
    found = {each["figure"]: each for each in json.loads(done.stdout)["figures"]}
    assert found["device_dry_wrong"]["value"] == 0, (found["device_dry_wrong"], done.stderr)
    assert found["device_dry"]["value"] >= 1000
    for name in ("device_wrong", "device_encode", "device_vs_eager", "device_step"):
        assert found[name]["value"] is None
        assert "no device" in found[name]["peers"]["reason"]
    assert done.returncode == 0
    records = json.loads((tmp_path / "device.json").read_text())["records"]
    timed = [each["name"] for each in records if "ms" in each]
    for call in ("encode_topk", "sparse_gradients", "train_step_topk", "coactivation", "eager"):
        assert any(call in name for name in timed), call


DEVICE = ROOT / "benchmarks" / "device.py"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--directory", str(DEVICE)], "device.py cannot be made: File exists; name another"),
        (["--only", "exakt"], "--only names exakt; the sections are exact-"),
        (["--budget", "0"], "--budget is 0 seconds, wanted more than 0"),
        (["--budget", "nan"], "--budget is nan seconds"),
        (["--device", "cuda"], "torch sees none here; --device cpu is the dry run"),
    ],
)
def test_a_lane_that_can_tell_nothing_does_not_begin(
    words: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    begin = runpy.run_path(str(DEVICE))["main"]
    with pytest.raises(SystemExit) as ended:
        begin(["--device", "cpu", "--directory", str(tmp_path / "found"), *words])
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.rglob("*.json*"))


def test_what_an_earlier_run_found_counts_for_no_later_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lane keeps its directory; a section that does not begin leaves what it found before."""
    (tmp_path / "exact-bf16.jsonl").write_text(
        '{"section": "exact-bf16", "name": "old", "holds": true}\n'
    )
    begin = runpy.run_path(str(DEVICE))["main"]
    begin(["--device", "cpu", "--directory", str(tmp_path), "--budget", "0.01", "--json"])
    assert json.loads((tmp_path / "device.json").read_text())["records"] == []
    found = {each["figure"]: each for each in json.loads(capsys.readouterr().out)["figures"]}
    assert found["device_dry"]["value"] in (None, 0)


@pytest.mark.timeout(900)
def test_tests_for_a_device_are_collected_on_a_bare_machine() -> None:
    plugins = ("-p", "_hypothesis_pytestplugin", "-p", "jaxtyping._pytest_plugin")
    done = bare("pytest", "-m", "gpu", "--collect-only", "-q", *plugins)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [line for line in done.stdout.splitlines() if "::" in line]
    assert names
    assert all("test_on_device.py" in name for name in names)
    for word in ("encoder", "decoders", "autograd", "coactivation", "training", "same_bits"):
        assert any(word in name for name in names), word


@pytest.mark.parametrize(
    ("markers", "wanted"),
    [
        ("gpu", True),
        ("gpu and not slow", True),
        ("not slow and not gpu and not peers", False),
        ("", False),
        ("slow", False),
    ],
)
def test_only_a_lane_that_asks_for_a_device_leaves_the_interpreter(
    markers: str, wanted: bool
) -> None:
    """Whether torch sees a device or not: elsewhere CPU tensors went to triton's compiler."""
    chosen = runpy.run_path(str(ROOT / "tests" / "conftest.py"))
    assert chosen["on_device"](markers) is wanted


def test_a_section_that_hangs_or_crashes_costs_only_itself(tmp_path: Path) -> None:
    def job(name: str, code: str, cap_s: float, *, is_timed: bool = False) -> Job:
        return Job(name=name, command=python("-c", code), cap_s=cap_s, is_timed=is_timed)

    runner = Runner(directory=tmp_path, budget_s=60, environment=dict(os.environ))
    runner.run(
        [
            job("hang", "import time; time.sleep(600)", 1),
            job("crash", "import os; os._exit(7)", 20),
            job("good", "print('here')", 50),
            job("slow", "import time; time.sleep(600)", 1, is_timed=True),
            job("last", "print('there')", 50, is_timed=True),
        ]
    )
    assert runner.ends["hang"].startswith("ended after")
    assert runner.ends["slow"].startswith("ended after")
    assert (runner.ends["crash"], runner.ends["good"], runner.ends["last"]) == (
        "exit 7",
        "done",
        "done",
    )
    assert (tmp_path / "last.log").read_text() == "there\n"
    late = Runner(directory=tmp_path, budget_s=0, environment=dict(os.environ))
    late.run([job("late", "", 1, is_timed=True)])
    assert late.ends == {"late": "no time left"}


def test_ends_and_wrong_checks_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"section": "a", "name": "one", "holds": true}\n'
        '{"section": "a", "name": "two", "holds": false}\n'
        '{"section": "a", "name": "bf16 4096 rows encode_topk", "ms": 3.0}\n'
        '{"section": "a", "name": "bf16 4096 rows addmm", "ms": 2.0}\n'
        '{"section": "a", "na'
    )
    records = read_records(tmp_path / "a.jsonl")
    assert len(records) == 4
    found = {
        str(each["figure"]): each
        for each in figures(records, {"a": "exit 3", "b": "done"}, is_dry=False)
    }
    assert found["device_wrong"]["value"] == 2
    assert found["device_wrong"]["holds"] is False
    assert found["device_wrong"]["peers"] == {"checks": 2, "wrong": ["a: two", "a: exit 3"]}
    assert found["device_encode"]["value"] == 1.5
    for name in ("device_vs_eager", "device_step"):
        assert found[name]["value"] is None
        assert "did not end" in str(found[name]["peers"])
    assert read_records(tmp_path / "none.jsonl") == []


def test_an_instruction_counts_as_often_as_all_loops_around_it_turn() -> None:
    loops = [(2, 3, True), (5, 6, False), (1, 8, True)]  # two within a third
    turns = {(True, True): 10, (False, True): 100, (True, False): 3}
    # 0 and 9 once, 1, 4, 7, 8 three times, 2 and 3 thirty times, 5 and 6 three hundred
    wanted = 2 + 4 * 3 + 2 * 30 + 2 * 300
    assert executed(10, loops, lambda dots, innermost: turns[dots, innermost]) == wanted
    assert executed(10, [], lambda dots, innermost: 7) == 10
    assert executed(10, loops, lambda dots, innermost: 0) == 2
