"""Codes of a dictionary over a probe, encoded once; each test gets a copy that it may change."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from isogloss.dictionaries import DictionaryProvenance, SparseDictionary
from isogloss.store import RecordingReader
from isogloss.universality import Probe, build_probe, encode_probe

Record = Callable[..., RecordingReader]

Encoded = tuple[RecordingReader, Probe, Path]

WORDS = ["the", "cat", "sat", "on", "a", "mat", "unhappy", "numbers", "12"]


def texts(count: int, words: int = 40, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) + f" #{n}" for n in range(count)]


def make_dictionary(
    width: int = 8, features: int = 24, k: int = 4, seed: int = 0, sha: str = "a" * 64
) -> SparseDictionary:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "encoder": torch.randn(features, width, generator=generator),
        "encoder_bias": torch.zeros(features),
        "decoder": torch.randn(features, width, generator=generator),
        "decoder_bias": torch.zeros(width),
    }
    provenance = DictionaryProvenance(weights_sha256=sha)
    return SparseDictionary.make("topk", {"features": features, "k": k}, tensors, provenance)


@pytest.fixture(scope="session")
def dictionary() -> Callable[..., SparseDictionary]:
    """Make a random dictionary."""
    return make_dictionary


@pytest.fixture(scope="session")
def written(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    documents = texts(40)
    long = record("a", documents, cut="pieces")
    short = record("b", documents, max_tokens=20)
    probe = build_probe({"a": long, "b": short})
    directory = tmp_path_factory.mktemp("written") / "codes"
    encode_probe(make_dictionary(), short, "layer", probe, directory, block_rows=64)
    return short, probe, directory


@pytest.fixture
def encoded(written: Encoded, tmp_path: Path) -> Encoded:
    """Reader, probe, and a directory of codes that the test may change."""
    reader, probe, directory = written
    copy = tmp_path / "codes" / "d" / probe.uid
    shutil.copytree(directory, copy)
    return reader, probe, copy
