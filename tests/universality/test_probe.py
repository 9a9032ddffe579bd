from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import (
    CorruptData,
    DocumentMismatch,
    EmptyProbe,
    InvalidInput,
    NoSharedDocuments,
    NotFound,
    UnsupportedVersion,
)
from isogloss.store import Document, RecordingReader, read_arrays, write_arrays
from isogloss.universality import Probe, build_probe, segment_rows
from isogloss.universality.grid import word_segments
from isogloss.universality.hashing import segment_keys, splitmix64, text_strata
from isogloss.universality.testing_probe import ProbeContract, ProbeSubject

Record = Callable[..., RecordingReader]
MakeProbe = Callable[..., Probe]

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


@pytest.fixture(scope="module")
def two_tokenizers(record_once: Record) -> ProbeSubject:
    """Two tokenizers, one of which stops early; a third joins."""
    documents = texts(40, words=20)
    return ProbeSubject(
        readers={
            "a": record_once("words-a", documents, max_tokens=15),
            "b": record_once("words-b", documents[::-1], cut="pieces"),
        },
        joining=record_once("words-c", documents, cut="characters"),
        grid="word_ends",
    )


@pytest.fixture(scope="module")
def one_tokenizer(record_once: Record) -> ProbeSubject:
    """One tokenizer, which stops early in one recording; documents in groups."""
    documents = [(text, f"source {n // 2}") for n, text in enumerate(texts(80, words=20))]
    return ProbeSubject(
        readers={
            "a": record_once("tokens-a", documents, max_tokens=15),
            "b": record_once("tokens-b", documents[::-1], seed=1),
        },
        joining=record_once("tokens-c", documents, seed=2),
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


def test_strata_of_words_fold_case() -> None:
    the, capital, cat = text_strata(["the", "The", "cat"])
    assert the == capital != cat


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


def test_segments_keep_their_names_when_documents_leave(record: Record) -> None:
    documents = texts(60)
    readers = {"a": record("a", documents), "b": record("b", documents, cut="pieces")}
    before = build_probe(readers)
    after = build_probe({**readers, "c": record("c", documents[:40], cut="pieces")})
    assert 0 < after.segments < before.segments
    kept = np.isin(before.keys, after.keys)
    assert np.array_equal(before.keys[kept], after.keys)
    assert np.array_equal(before.half[kept], after.half)
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
    assert {0, 1} == set().union(*halves.values())
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


def test_one_group_cannot_be_halved(record: Record) -> None:
    documents = [(text, "one source") for text in texts(8)]
    with pytest.raises(EmptyProbe, match="in 1 groups all fall in one half"):
        build_probe({"a": record("a", documents)}, holdout=1.0)


def test_tokens_at_other_positions_are_a_mismatch(record: Record) -> None:
    documents = texts(40)
    readers = {"a": record("a", documents), "b": record("b", documents, first_position=1)}
    with pytest.raises(DocumentMismatch, match="word_ends"):
        build_probe(readers)
    assert (segment_rows(build_probe(readers, grid="word_ends"), readers["b"]) >= 0).all()


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


def test_segments_of_words_need_the_document_itself(record: Record) -> None:
    documents = texts(40)
    probe = build_probe({"a": record("a", documents)}, grid="word_ends")
    # without text a document is known by its tokens: another document
    with pytest.raises(NoSharedDocuments):
        segment_rows(probe, record("b", documents, has_spans=False))


def test_tokens_of_two_tokenizers_cannot_be_compared(record: Record) -> None:
    documents = texts(5)
    readers = {"a": record("a", documents), "b": record("b", documents, cut="pieces")}
    with pytest.raises(InvalidInput, match="use the grid 'word_ends'"):
        build_probe(readers, grid="tokens")


def test_a_later_version_of_the_file_is_refused(make_probe: MakeProbe, tmp_path: Path) -> None:
    make_probe(100).save(tmp_path / "probe")
    arrays, attributes = read_arrays(tmp_path / "probe")
    write_arrays(tmp_path / "probe", arrays, {**attributes, "version": 2})
    with pytest.raises(UnsupportedVersion, match="version 2"):
        Probe.load(tmp_path / "probe")


@pytest.mark.parametrize("name", ARRAYS)
def test_changed_arrays_are_noticed(make_probe: MakeProbe, tmp_path: Path, name: str) -> None:
    make_probe(100).save(tmp_path / "probe")
    arrays, attributes = read_arrays(tmp_path / "probe")
    changed = arrays[name].copy()
    changed[0] += 1
    write_arrays(tmp_path / "probe", {**arrays, name: changed}, attributes)
    with pytest.raises(CorruptData, match="was written"):
        Probe.load(tmp_path / "probe")


def test_a_missing_array_is_named(make_probe: MakeProbe, tmp_path: Path) -> None:
    make_probe(100).save(tmp_path / "probe")
    arrays, attributes = read_arrays(tmp_path / "probe")
    del arrays["half"]
    write_arrays(tmp_path / "probe", arrays, attributes)
    with pytest.raises(CorruptData, match="'half' is missing"):
        Probe.load(tmp_path / "probe")


def test_a_probe_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Probe.load(tmp_path / "nothing")


def test_arrays_of_a_probe_must_agree(make_probe: MakeProbe) -> None:
    probe = make_probe(100)
    with pytest.raises(InvalidInput, match="half has 99 rows"):
        replace(probe, half=probe.half[:-1])


def test_keys_tell_documents_and_places_apart() -> None:
    documents = np.array([[1, 2], [2, 1], [1, 3]], np.uint64)
    index = np.repeat(np.arange(3), 1000)
    keys = segment_keys(documents, index, np.tile(np.arange(1000, dtype=np.uint32), 3))
    assert len(np.unique(keys)) == 3000


def test_splitmix64_gives_the_published_sequence() -> None:
    # the generator seeded with 0 adds the golden ratio before each output
    steps = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    wanted = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert splitmix64(steps).tolist() == wanted
