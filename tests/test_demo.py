"""What a newcomer runs first: the demo on other models, and the README's own code."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hand_figures.first_feature import own_loop
from tests.tiny_models import save_tiny_bert, save_tiny_pythia
from typer.core import TyperGroup
from typer.main import get_command

import isogloss
from isogloss.models import TextDocument, load_model
from isogloss.service.cli.main import app

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.fixture(scope="module")
def berts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("berts")
    return [
        str(save_tiny_bert(root / "tiny-one", seed=0, width=32)),
        str(save_tiny_bert(root / "2nd.Tiny_Model", seed=1, width=48)),
    ]


def demo(directory: Path, models: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "examples" / "demo.py")
    return run(
        script, "--directory", str(directory), "--models", *models, *more, cwd=directory.parent
    )


def artifacts(store: Path) -> list[str]:
    """What was recorded, trained and matched; the logs of the jobs are left out."""
    found = store.glob("*/*")
    return sorted(str(path.relative_to(store)) for path in found if path.parent.name != "jobs")


def test_the_demo_takes_local_directories_and_does_nothing_twice(
    tmp_path: Path, berts: list[str]
) -> None:
    sizes = ("--documents", "500", "--features", "128")
    first = demo(tmp_path / "demo", berts, *sizes)
    assert first.returncode == 0, first.stdout + first.stderr
    (report,) = (tmp_path / "demo").glob("report-*.html")
    assert str(report) in first.stdout.replace("\n", "")
    assert "<svg" in report.read_text()
    (figures,) = (tmp_path / "demo").glob("figures-*.json")
    measured = json.loads(figures.read_text())
    assert measured["rows_tiny-one"] == measured["rows_m-2nd-tiny-model"] > 5_000
    assert measured["record_tiny-one_rows_per_s"] > 0
    assert any("r >= 0.3" in line for line in measured["summary"])

    stored = artifacts(tmp_path / "demo" / "store")
    # two recordings, two dictionaries and a rotated one, a probe, a match and its floor
    assert len(stored) >= 8
    assert "floor: " in first.stdout
    assert "Beside a ceiling and a floor" in report.read_text()
    second = demo(tmp_path / "demo", berts, *sizes)
    assert second.returncode == 0, second.stdout + second.stderr
    assert artifacts(tmp_path / "demo" / "store") == stored
    again = json.loads(figures.read_text())
    assert again.pop("last_run_s") > 0 < measured.pop("last_run_s")
    assert again == measured


def test_the_demo_says_in_one_line_what_is_wrong(tmp_path: Path, berts: list[str]) -> None:
    wrong = demo(tmp_path / "demo", [berts[0], str(tmp_path / "absent")], "--documents", "20")
    assert wrong.returncode == 1
    assert "absent" in wrong.stdout
    assert "Traceback" not in wrong.stdout + wrong.stderr


def test_the_code_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = re.findall(
        r"```python\n(import isogloss\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert code.count("words=100)") == 1
    code = code.replace("words=100)", "words=100)[::8]")  # an eighth of the text is enough here
    for seed, name in enumerate(("EleutherAI/pythia-70m", "EleutherAI/pythia-160m")):
        assert code.count(f'"{name}"') == 1
        folder = save_tiny_pythia(tmp_path / f"pythia-{seed}", seed=seed, width=32 + 16 * seed)
        code = code.replace(f'"{name}"', repr(str(folder)))
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "r 0." in done.stdout or "r 1." in done.stdout, done.stdout


CONFIG = """
def TransformerBridgeConfig(**sizes):
    return sizes
"""
BRIDGE = """
import torch

class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear, self.hook_out = torch.nn.Linear(width, width), torch.nn.Identity()

    def forward(self, rows):
        return self.hook_out(rows + self.linear(rows))

class TransformerBridge(torch.nn.Module):
    @classmethod
    def boot_native(cls, config):
        made = cls()
        made.embed = torch.nn.Embedding(config["d_vocab"], config["d_model"])
        blocks = (Block(config["d_model"]) for _ in range(config["n_layers"]))
        made.blocks = torch.nn.Sequential(*blocks)
        return made

    def forward(self, ids):
        return self.blocks(self.embed(ids))
"""


def test_the_loop_of_the_readme_runs_up_to_a_features_contexts(tmp_path: Path) -> None:
    """On a stand-in where TransformerLens is not: hand.py --only first_feature --full has it."""
    if find_spec("transformer_lens") is None:
        package = tmp_path / "transformer_lens"
        package.mkdir()
        for name, code in (("__init__", ""), ("config", CONFIG), ("model_bridge", BRIDGE)):
            (package / f"{name}.py").write_text(code)
    told = own_loop((ROOT / "README.md").read_text())
    beside = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    done = run("-c", beside + told.program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    counts, *contexts = done.stdout.splitlines()
    assert "durable_rows=24576" in counts
    assert len(contexts) == 3
    assert all(re.match(r"\d+\.\d\d .*\[<\d+>\]", line) for line in contexts), contexts
    assert told.packages == ["isogloss[server]", "transformer-lens>=4"]


def test_the_commands_of_the_readme_are_there_with_their_options() -> None:
    lines = re.findall(
        r"^isogloss (.*?)(?:  +#(.*))?$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert len(lines) >= 12
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for given, told in lines:
        command, *words = given.split()
        for name in (command, *re.findall(r"`(?:isogloss )?([a-z]+)", told)):
            assert name in group.commands, name
        known = {name for option in group.commands[command].params for name in option.opts}
        named = {word.rstrip(",;") for word in (*words, *told.split()) if word.startswith("--")}
        assert named <= known | {"--help", "--json", "--csv", "--parquet"}, (command, named)


def test_the_code_with_a_dictionary_in_the_hand_runs_on_an_own_model(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    with isogloss.connect(tmp_path / "store") as client:
        loaded = load_model(str(save_tiny_pythia(tmp_path / "tiny", seed=0, width=16)))
        texts = [TextDocument(text=f"some words, {n} of them") for n in range(30)]
        client.record_documents(loaded, texts, sites=["layers.3"], recording="tiny")
        few = {"batch_rows": 64, "holdout": 0.0}
        trained = client.train("tiny", site="layers.3", features=2048, k=4, more=few).result(120)
        causal = load_model(str(tmp_path / "tiny"), causal=True)
        known: dict[str, Any] = {"client": client, "a": trained, "model": causal.module}
        known |= {"activations": torch.randn(3, 16), "inputs": {"input_ids": torch.tensor([[5]])}}
        exec(blocks[2], known)
        assert known["passport"].answer == "same"
