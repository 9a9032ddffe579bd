"""Every segment finds the row of its last token, in any recording of its documents."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from isogloss.errors import (
    DocumentMismatch,
    NoSharedDocuments,
)
from isogloss.store import RecordingReader
from isogloss.universality import build_probe, segment_rows
from isogloss.universality.probe.hashing import splitmix64

Record = Callable[..., RecordingReader]

WORDS = ["the", "The", "cat", "sat", "on", "a", "mat", "and", "unhappy", "numbers", "12", "times,"]


def texts(count: int, words: int = 40, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) + f" #{n}" for n in range(count)]


def test_segments_of_both_tokenizers_end_at_the_same_character(record: Record) -> None:
    documents = texts(40)
    readers = {"a": record("a", documents), "b": record("b", documents, cut="pieces")}
    probe = build_probe(readers)
    for reader in readers.values():
        rows = segment_rows(probe, reader)
        assert (rows >= 0).all()
        tokens = reader.tokens()
        assert tokens.span is not None
        assert np.array_equal(tokens.span[rows, 1], probe.segment_span[:, 1])
        assert np.array_equal(tokens.document[rows], probe.documents[probe.segment_document])


def test_tokens_that_one_recording_truncated_are_missing_there(record: Record) -> None:
    documents = texts(40)
    long, short = record("a", documents), record("b", documents, max_tokens=10)
    probe = build_probe({"a": long, "b": short})
    assert (segment_rows(probe, long) >= 0).all()
    rows = segment_rows(probe, short)
    assert np.array_equal(rows >= 0, probe.segment_span[:, 1] < 10)


def test_words_that_one_recording_truncated_are_missing_there(record: Record) -> None:
    documents = texts(40)
    long, short = record("a", documents, cut="pieces"), record("b", documents, max_tokens=5)
    probe = build_probe({"a": long, "b": short})
    rows = segment_rows(probe, short)
    assert (rows[probe.stratum_position < 5] >= 0).all()
    assert (rows[probe.stratum_position >= 5] == -1).all()


def test_a_recording_that_joins_later_finds_its_rows(record: Record) -> None:
    documents = texts(40)
    probe = build_probe({"a": record("a", documents)}, grid="word_ends")
    rows = segment_rows(probe, record("later", documents, cut="pieces"))
    assert (rows >= 0).all()


def test_rows_of_another_tokenizer_do_not_fit_a_token_probe(record: Record) -> None:
    documents = texts(40)
    probe = build_probe({"a": record("a", documents)})
    with pytest.raises(DocumentMismatch, match="pieces"):
        segment_rows(probe, record("b", documents, cut="pieces"))


def test_a_recording_of_other_documents_does_not_fit_a_probe(record: Record) -> None:
    probe = build_probe({"a": record("a", texts(40))})
    with pytest.raises(NoSharedDocuments, match="'b' holds 0"):
        segment_rows(probe, record("b", texts(40, seed=5)))


def test_a_document_under_the_same_id_with_another_key_is_a_mismatch(record: Record) -> None:
    reader = record("a", texts(40))
    probe = build_probe({"a": reader})
    forged = replace(probe, keys=splitmix64(probe.keys))
    with pytest.raises(DocumentMismatch, match="is not the probe's"):
        segment_rows(forged, reader)


def test_segments_of_words_need_the_document_itself(record: Record) -> None:
    documents = texts(40)
    probe = build_probe({"a": record("a", documents)}, grid="word_ends")
    # without text a document is known by its tokens: another document
    with pytest.raises(NoSharedDocuments):
        segment_rows(probe, record("b", documents, has_spans=False))
