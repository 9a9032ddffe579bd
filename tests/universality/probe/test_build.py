"""Probes are cut from what recordings share, and say why where they cannot be."""

from collections.abc import Callable

import numpy as np
import pytest

from isogloss.errors import (
    DocumentMismatch,
    EmptyProbe,
    InvalidInput,
    NoSharedDocuments,
)
from isogloss.store import Document, RecordingReader
from isogloss.universality import Probe, build_probe, segment_rows
from isogloss.universality.probe.grid import word_segments

Record = Callable[..., RecordingReader]

WORDS = ["the", "The", "cat", "sat", "on", "a", "mat", "and", "unhappy", "numbers", "12", "times,"]

ARRAYS = [
    "documents",
    "segment_document",
    "segment_source",
    "segment_span",
    "stratum_token",
    "stratum_position",
    "half",
    "keys",
]


def texts(count: int, words: int = 40, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, words)) + f" #{n}" for n in range(count)]


def held_out(documents: list[str], holdout: float = 0.25) -> dict[int, Document]:
    found = [Document.from_text(text) for text in documents]
    return {d.id: d for d in found if d.split_position < holdout}


def same_arrays(a: Probe, b: Probe) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ARRAYS)


def test_probe_holds_the_words_of_the_held_out_documents(record: Record) -> None:
    documents = texts(40)
    probe = build_probe({"a": record("a", documents), "b": record("b", documents, cut="pieces")})
    wanted = held_out(documents)
    assert probe.grid == "word_ends"
    assert probe.documents.tolist() == sorted(wanted)
    for n, name in enumerate(probe.documents.tolist()):
        here = probe.segment_document == n
        text = wanted[name].text or ""
        assert probe.segment_span[here].tolist() == word_segments(text).tolist()
        assert probe.stratum_position[here].tolist() == list(range(here.sum()))
    assert probe.recordings[0][0] == "a"
    assert len(np.unique(probe.keys)) == probe.segments


def test_segments_keep_their_names_when_documents_leave(record: Record) -> None:
    documents = texts(60)
    readers = {"a": record("a", documents), "b": record("b", documents, cut="pieces")}
    before = build_probe(readers)
    after = build_probe({**readers, "c": record("c", documents[:40], cut="pieces")})
    assert 0 < after.segments < before.segments
    kept = np.isin(before.keys, after.keys)
    assert np.array_equal(before.keys[kept], after.keys)
    assert np.array_equal(before.stratum_token[kept], after.stratum_token)


def test_probe_does_not_depend_on_the_order_of_recording(record: Record) -> None:
    documents = texts(40)
    one = build_probe({"a": record("a", documents, cut="pieces")}, grid="word_ends")
    other = build_probe({"b": record("b", documents[::-1], cut="pieces")}, grid="word_ends")
    assert same_arrays(one, other)


def test_groups_of_documents_stay_in_one_half_and_are_one_source(record: Record) -> None:
    documents = [(text, f"source {n // 4}") for n, text in enumerate(texts(160))]
    probe = build_probe({"a": record("a", documents)})
    groups = {Document.from_text(text).id: group for text, group in documents}
    numbered: dict[str, set[int]] = {}
    halves: dict[str, set[int]] = {}
    for n, name in enumerate(probe.documents.tolist()):
        found = set(probe.half[probe.segment_document == n].tolist())
        halves.setdefault(groups[name], set()).update(found)
        sources = set(probe.segment_source[probe.segment_document == n].tolist())
        assert len(sources) == 1
        numbered.setdefault(groups[name], set()).update(sources)
    assert all(len(found) == 1 for found in halves.values())
    by_half = [sum(found == {half} for found in halves.values()) for half in (0, 1)]
    assert abs(by_half[0] - by_half[1]) <= 1
    assert all(len(found) == 1 for found in numbered.values())
    assert len(set().union(*numbered.values())) == len(numbered)


def test_tokens_are_the_segments_with_one_tokenizer(record: Record) -> None:
    documents = texts(40)
    readers = {"a": record("a", documents, seed=1), "b": record("b", documents, seed=2)}
    probe = build_probe(readers)
    assert probe.grid == "tokens"
    tokens = readers["a"].tokens()
    rows = segment_rows(probe, readers["a"])
    assert np.array_equal(tokens.position[rows], probe.segment_span[:, 1])
    ids, strata = tokens.token_id[rows], probe.stratum_token
    assert len(np.unique(ids)) == len(np.unique(strata))
    assert (np.diff(strata[np.argsort(ids, kind="stable")]) != 0).sum() == len(np.unique(ids)) - 1


def test_token_grid_needs_no_text(record: Record) -> None:
    documents = texts(40)
    readers = {"a": record("a", documents, has_spans=False)}
    readers["b"] = record("b", documents, has_spans=False, seed=3)
    probe = build_probe(readers)
    assert probe.grid == "tokens"
    assert (segment_rows(probe, readers["b"]) >= 0).all()


def test_no_shared_document_is_an_error_that_counts_them(record: Record) -> None:
    readers = {"a": record("a", texts(20)), "b": record("b", texts(20, seed=9), cut="pieces")}
    with pytest.raises(NoSharedDocuments, match="a has 20, b has 20"):
        build_probe(readers)


def test_no_held_out_document_is_an_empty_probe(record: Record) -> None:
    documents = [text for text in texts(20) if Document.from_text(text).split_position > 0.3]
    with pytest.raises(EmptyProbe, match="0 of them held out"):
        build_probe({"a": record("a", documents)})


def test_held_out_documents_without_words_are_an_empty_probe(record: Record) -> None:
    blank = [" " * n for n in range(1, 60)]
    with pytest.raises(EmptyProbe, match="none has a segment"):
        build_probe({"a": record("a", blank, cut="characters")}, grid="word_ends")


def test_two_groups_are_always_halved(record: Record) -> None:
    for seed in range(8):  # one coin for each would leave a half empty in every second of them
        documents = [(text, f"source {n % 2}") for n, text in enumerate(texts(8))]
        probe = build_probe({"a": record(f"a{seed}", documents)}, holdout=1.0, seed=seed)
        assert set(probe.half.tolist()) == {0, 1}


def test_one_group_cannot_be_halved(record: Record) -> None:
    documents = [(text, "one source") for text in texts(8)]
    with pytest.raises(EmptyProbe, match="in 1 groups all fall in one half"):
        build_probe({"a": record("a", documents)}, holdout=1.0)


def test_tokens_at_other_positions_are_a_mismatch(record: Record) -> None:
    documents = texts(40)
    readers = {"a": record("a", documents), "b": record("b", documents, first_position=1)}
    lowest = min(readers["a"].documents())
    said = rf"document {lowest:016x} has tokens \d+ and \d+ at position 1 of a, b.*word_ends"
    with pytest.raises(DocumentMismatch, match=said):
        build_probe(readers, holdout=1.0)
    assert (segment_rows(build_probe(readers, grid="word_ends"), readers["b"]) >= 0).all()


@pytest.mark.parametrize("holdout", [0.0, -1.0, 1.5])
def test_holdout_must_be_a_share(record: Record, holdout: float) -> None:
    with pytest.raises(InvalidInput, match="holdout"):
        build_probe({"a": record("a", texts(5))}, holdout=holdout)


def test_no_recording_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one"):
        build_probe({})


def test_words_need_spans(record: Record) -> None:
    documents = texts(40)
    readers = {"a": record("a", documents, has_spans=False)}
    with pytest.raises(InvalidInput, match="without spans"):
        build_probe(readers, grid="word_ends")


def test_tokens_of_two_tokenizers_cannot_be_compared(record: Record) -> None:
    documents = texts(5)
    readers = {"a": record("a", documents), "b": record("b", documents, cut="pieces")}
    with pytest.raises(InvalidInput, match="use the grid 'word_ends'"):
        build_probe(readers, grid="tokens")
