"""A tiny causal model on disk, and the command line as it is called."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.models.conftest import byte_level
from transformers import GPT2Config, GPT2LMHeadModel

import isogloss
import isogloss.service.cli.main as cli
from isogloss.models import TextDocument, load_model, passages

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    _save(folder, seed=1)
    return str(folder)


def _save(folder: Path, *, seed: int) -> None:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(byte_level()), n_embd=24, n_layer=2, n_head=2, n_positions=128,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    byte_level().save_pretrained(folder)


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


@pytest.fixture(scope="module")
def other_gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of the same sizes with other weights."""
    folder = tmp_path_factory.mktemp("models") / "other"
    _save(folder, seed=2)
    return str(folder)


@pytest.fixture(scope="module")
def trained_store(gpt2: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with dictionaries ``first`` and ``second``, of the tiny model's two layers."""
    store = tmp_path_factory.mktemp("trained") / "store"
    text = " ".join(f"call {i} resumes where {i * i} stopped; keys stay." for i in range(200))
    documents = passages([TextDocument(text=text)], words=40)
    with isogloss.connect(store) as client:
        client.record_documents(load_model(gpt2), documents, sites=["h.0", "h.1"], recording="tiny")
        for site, name in (("h.0", "first"), ("h.1", "second")):
            client.train("tiny", site=site, features=16, k=4, dictionary=name).result()
    return store
