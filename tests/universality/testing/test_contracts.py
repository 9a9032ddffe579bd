"""Probes of words and of tokens keep the contract of a probe."""

from collections.abc import Callable

import numpy as np
import pytest

from isogloss.store import RecordingReader
from isogloss.universality.testing.contracts import ProbeContract, ProbeSubject

Record = Callable[..., RecordingReader]

WORDS = ["the", "The", "cat", "sat", "on", "a", "mat", "and", "unhappy", "numbers", "12", "times,"]


def texts(count: int, words: int = 40, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) + f" #{n}" for n in range(count)]


@pytest.fixture(scope="module")
def two_tokenizers(record: Record) -> ProbeSubject:
    """Two tokenizers, one of which stops early; a third joins."""
    documents = texts(40, words=20)
    return ProbeSubject(
        readers={
            "a": record("words-a", documents, max_tokens=15),
            "b": record("words-b", documents[::-1], cut="pieces"),
        },
        joining=record("words-c", documents, cut="characters"),
        grid="word_ends",
    )


@pytest.fixture(scope="module")
def one_tokenizer(record: Record) -> ProbeSubject:
    """One tokenizer, which stops early in one recording; documents in groups."""
    documents = [(text, f"source {n // 2}") for n, text in enumerate(texts(80, words=20))]
    return ProbeSubject(
        readers={
            "a": record("tokens-a", documents, max_tokens=15),
            "b": record("tokens-b", documents[::-1], seed=1),
        },
        joining=record("tokens-c", documents, seed=2),
        grid="tokens",
    )


class TestProbeOfWords(ProbeContract):
    @pytest.fixture
    def subject(self, two_tokenizers: ProbeSubject) -> ProbeSubject:
        return two_tokenizers


class TestProbeOfTokens(ProbeContract):
    @pytest.fixture
    def subject(self, one_tokenizer: ProbeSubject) -> ProbeSubject:
        return one_tokenizer
