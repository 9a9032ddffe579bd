"""Probes of words and of tokens keep the contract of a probe."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from isogloss.store import RecordingReader
from isogloss.universality import Probe, build_probe
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


def test_the_contract_notices_a_probe_that_breaks_it(two_tokenizers: ProbeSubject) -> None:
    contract = ProbeContract()
    forged = Forged(
        readers=two_tokenizers.readers,
        joining=two_tokenizers.joining,
        grid="word_ends",
        holdout=0.01,
    )
    with pytest.raises(AssertionError, match="was not held out"):
        contract.test_its_documents_are_held_out_and_in_every_recording(forged)
    with pytest.raises(AssertionError, match="a source is in both halves"):
        contract.test_a_source_is_in_one_half_and_both_halves_have_some(forged)


class Forged(ProbeSubject):
    """Builds a probe of more documents than were held out, halved within its sources."""

    def build(self, probe_id: str = "probe", seed: int = 0) -> Probe:
        probe = build_probe(self.readers, grid=self.grid, seed=seed, probe_id=probe_id)
        return replace(probe, half=(np.arange(probe.segments) % 2).astype(np.int8))
