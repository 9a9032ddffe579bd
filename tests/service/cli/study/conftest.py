"""A tiny causal model on disk, and the command line as it is called."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.models.conftest import byte_level
from transformers import GPT2Config, GPT2LMHeadModel

import isogloss.service.cli.main as cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=len(byte_level()), n_embd=24, n_layer=2, n_head=2, n_positions=128,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    byte_level().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["isogloss", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
