"""Contexts show exactly the text around the strongest places of a feature."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, NotFound, ShapeError
from isogloss.store import Document
from isogloss.universality.codes.contexts import contexts
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.probe.grid import Grid, word_segments
from isogloss.universality.probe.probe import Probe, ProbeOrigin
from isogloss.universality.testing.synthetic import write_probed

TEXTS = ("Čau 𝕏 — the cat sat, twice!", "A dog; the dog.", "Nothing here")


def cut(texts: Sequence[str], grid: Grid = "word_ends") -> tuple[Probe, dict[int, Document]]:
    """A probe over the words of some texts."""
    documents = sorted((Document.from_text(text) for text in texts), key=lambda d: d.id)
    spans = [np.asarray(word_segments(document.text or "")) for document in documents]
    index = np.repeat(np.arange(len(spans), dtype=np.int32), [len(s) for s in spans])
    position = np.concatenate([np.arange(len(s), dtype=np.int32) for s in spans])
    places = np.concatenate(spans).astype(np.uint32)
    probe = Probe(
        id="words",
        uid="words",
        recordings=(),
        grid=grid,
        origin=ProbeOrigin(holdout=1.0, seed=0, segmenter="test"),
        documents=np.array([document.id for document in documents], np.uint64),
        segment_document=index,
        segment_source=index,
        segment_span=places if grid == "word_ends" else np.stack([position] * 2, 1).astype("u4"),
        stratum_token=np.zeros(len(index), np.int64),
        stratum_position=position,
        half=np.zeros(len(index), np.int8),
        keys=np.arange(len(index), dtype=np.uint64),
    )
    return probe, {document.id: document for document in documents}


def words(probe: Probe, documents: dict[int, Document]) -> list[str]:
    """Text of every segment of a word grid."""
    texts = [documents[int(probe.documents[d])].text or "" for d in probe.segment_document]
    return [text[a:b] for text, (a, b) in zip(texts, probe.segment_span.tolist(), strict=True)]


def fire(path: Path, probe: Probe, values: dict[int, float]) -> ProbedDictionary:
    """A dictionary of two features; the second fires on given segments."""
    dense = np.zeros((probe.segments, 2))
    for segment, value in values.items():
        dense[segment, 1] = value
    return write_probed(path / "codes", "d", sp.csr_array(dense))


def test_texts_around_a_peak_are_code_point_exact(tmp_path: Path) -> None:
    probe, documents = cut(TEXTS[:1])
    found = words(probe, documents)
    sat, twice = found.index("sat"), found.index("twice")
    side = fire(tmp_path, probe, {sat: 2.0, twice: 0.5})
    context = contexts(side, probe, documents, 1, 1, window=50)[0]
    assert context.text_peak == "sat"
    assert TEXTS[0].startswith(context.text_before + "sat" + context.text_after)
    assert context.text_before == "Čau 𝕏 — the cat "
    assert context.text_after.startswith(", twice")
    assert context.value == 2.0
    assert context.document == Document.from_text(TEXTS[0]).id
    assert context.segment == sat
    assert "".join(piece.text for piece in context.pieces) == context.text
    lit = {piece.text: piece.value for piece in context.pieces if piece.value}
    assert lit == {"sat": 2.0, "twice": 0.5}
    assert context.cut == (False, False)


def test_a_window_cuts_the_text_at_segments_and_says_so(tmp_path: Path) -> None:
    probe, documents = cut(TEXTS[:1])
    found = words(probe, documents)
    cat = found.index("cat")
    side = fire(tmp_path, probe, {cat: 1.0})
    context = contexts(side, probe, documents, 1, window=1)[0]
    assert context.text == "the cat sat"
    assert context.cut == (True, True)
    alone = contexts(side, probe, documents, 1, window=0)[0]
    assert (alone.text_before, alone.text_peak, alone.text_after) == ("", "cat", "")


def test_the_best_place_of_each_document_comes_before_the_second_of_any(tmp_path: Path) -> None:
    probe, documents = cut(TEXTS)
    first = [int(np.flatnonzero(probe.segment_document == d)[0]) for d in range(3)]
    values = {first[0]: 9.0, first[0] + 1: 8.0, first[1]: 1.0, first[2]: 2.0}
    side = fire(tmp_path, probe, values)
    three = contexts(side, probe, documents, 1, 3)
    assert [context.segment for context in three] == [first[0], first[2], first[1]]
    four = contexts(side, probe, documents, 1, 4)
    assert [context.value for context in four] == [9.0, 8.0, 2.0, 1.0]
    assert len(contexts(side, probe, documents, 1, 99)) == 4


def test_windows_stay_within_their_document(tmp_path: Path) -> None:
    probe, documents = cut(TEXTS)
    for document in range(3):
        rows = np.flatnonzero(probe.segment_document == document)
        side = fire(tmp_path / str(document), probe, {int(rows[0]): 1.0})
        context = contexts(side, probe, documents, 1, window=99)[0]
        text = documents[int(probe.documents[document])].text or ""
        assert context.text in text
        assert context.document == int(probe.documents[document])


def test_token_grids_take_code_points_or_token_texts(tmp_path: Path) -> None:
    by_word, documents = cut(TEXTS[:1])
    spans = by_word.segment_span
    texts = words(by_word, documents)
    probe, _ = cut(TEXTS[:1], grid="tokens")
    cat = texts.index("cat")
    side = fire(tmp_path, probe, {cat: 1.0})
    exact = contexts(side, probe, documents, 1, window=1, spans=spans)[0]
    assert exact.text == "the cat sat"
    joined = contexts(side, probe, documents, 1, window=1, tokens=texts)[0]
    assert (joined.text_before, joined.text_peak, joined.text_after) == ("the ", "cat", " sat")
    with pytest.raises(InvalidInput, match="give the recording's spans, or tokens"):
        contexts(side, probe, documents, 1)


def test_tokens_that_share_a_code_point_do_not_repeat_it(tmp_path: Path) -> None:
    probe, documents = cut(["abcd efgh"], grid="tokens")
    spans: NDArray[Any] = np.array([[0, 6], [5, 9]])
    side = fire(tmp_path, probe, {1: 1.0})
    found = contexts(side, probe, documents, 1, spans=spans)[0]
    assert found.text == "abcd efgh"
    assert found.text_peak == "fgh"


def test_documents_without_text_show_their_tokens(tmp_path: Path) -> None:
    bare = Document.from_token_ids([1, 2, 3])
    of_text, _ = cut(["one two three"], grid="tokens")
    probe = replace(of_text, documents=np.array([bare.id], np.uint64))
    side = fire(tmp_path, probe, {1: 1.0})
    found = contexts(side, probe, {bare.id: bare}, 1, tokens=["x", "y", "z"])[0]
    assert found.text == "x y z"
    assert found.text_peak == "y"


def test_a_feature_that_never_fires_has_no_context(tmp_path: Path) -> None:
    probe, documents = cut(TEXTS)
    assert contexts(fire(tmp_path, probe, {}), probe, documents, 0) == []


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    probe, documents = cut(TEXTS)
    side = fire(tmp_path, probe, {0: 1.0})
    with pytest.raises(InvalidInput, match="feature 2 of 'd'"):
        contexts(side, probe, documents, 2)
    with pytest.raises(InvalidInput, match="count 0"):
        contexts(side, probe, documents, 1, 0)
    with pytest.raises(NotFound, match="not among the 0 given"):
        contexts(side, probe, {}, 1)
    with pytest.raises(ShapeError, match=rf"tokens has 1 entries, the probe {probe.segments}"):
        contexts(side, probe, documents, 1, tokens=["x"])
