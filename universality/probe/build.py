"""Cut a probe from the documents that recordings share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import (
    DocumentMismatch,
    EmptyProbe,
    InvalidInput,
    NoSharedDocuments,
)
from isogloss.store import Document, RecordingReader
from isogloss.universality.probe.grid import (
    SEGMENTER,
    Grid,
    word_segments,
)
from isogloss.universality.probe.hashing import halves, segment_keys, text_strata, token_strata
from isogloss.universality.probe.probe import Probe, ProbeOrigin
from isogloss.universality.probe.rows import document_index, document_keys, no_spans


def build_probe(
    readers: Mapping[str, RecordingReader],
    *,
    holdout: float = 0.25,
    seed: int = 0,
    grid: Grid | None = None,
    steps: Mapping[str, Sequence[int]] | None = None,
    probe_id: str = "probe",
    uid: str = "",
) -> Probe:
    """Make a probe of the documents that all recordings hold and no dictionary is trained on.

    Args:
        readers: the recordings, by id.
        holdout: take documents whose ``split_position`` is below this, which trainings leave out.
        seed: seed of the split into halves.
        grid: ``tokens``: each token is a segment; ``word_ends``: each word is, which stays so when
            a model with another tokenizer joins. None: tokens for one tokenizer, else words.
        steps: by recording, training steps at each of which it must have rows of a document.
        probe_id: id of the probe in the store.
        uid: name of the probe's directory in the store; empty: the start of its digest.

    Returns:
        The probe.

    Raises:
        InvalidInput: no recording, ``holdout`` outside (0, 1], or ``grid`` does not fit them.
        NoSharedDocuments: no document is in all recordings.
        EmptyProbe: no shared document is below ``holdout``, none has text, or a half is empty.
        DocumentMismatch: two recordings differ in a document or in its tokens.
    """
    if not 0 < holdout <= 1:
        raise InvalidInput(f"holdout is {holdout}, wanted a share in (0, 1]")
    grid = _check_grid(readers, grid)
    shared = _held_out(_shared_documents(readers, steps or {}), holdout)
    documents, span, stratum, folded = _segments(readers, grid, shared)
    # Documents without a segment (no text, no recorded token) leave the probe.
    kept, document = np.unique(documents, return_inverse=True)
    variants = list(shared.values())
    names = _source_names(chosen := [variants[n] for n in kept.tolist()])
    source = np.unique(np.array(names, object), return_inverse=True)[1].astype(np.int32)
    probe = Probe(
        id=probe_id,
        uid=uid,
        recordings=_pinned(readers),
        grid=grid,
        origin=ProbeOrigin(
            holdout=holdout, seed=seed, segmenter=SEGMENTER if grid == "word_ends" else "tokens"
        ),
        documents=np.array([found[0].id for found in chosen], np.uint64),
        segment_document=document.astype(np.int32),
        segment_source=source[document],
        segment_span=span,
        stratum_token=stratum,
        stratum_position=_index_within(document),
        half=_halves(names, seed)[document],
        keys=segment_keys(document_keys([found[0] for found in chosen]), document, span[:, 1]),
        stratum_folded=folded,
    )
    return probe if uid else replace(probe, uid=probe.digest[:32])


def _pinned(readers: Mapping[str, RecordingReader]) -> tuple[tuple[str, str, str], ...]:
    """Return id, uid and revision id of each recording."""
    return tuple(
        (name, reader.revision.recording, reader.revision.id) for name, reader in readers.items()
    )


def _index_within(document: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number the segments of each document from 0."""
    firsts = np.searchsorted(document, np.arange(document[-1] + 1))
    return (np.arange(len(document)) - firsts[document]).astype(np.int32)


def _check_grid(readers: Mapping[str, RecordingReader], grid: Grid | None) -> Grid:
    if not readers:
        raise InvalidInput("0 recordings; a probe needs at least one")
    tokenizers = {reader.spec.tokenizer for reader in readers.values()}
    if grid is None:
        grid = "tokens" if len(tokenizers) == 1 else "word_ends"
    if grid == "tokens" and len(tokenizers) > 1:
        raise InvalidInput(
            f"tokenizers {sorted(tokenizers)} differ, so tokens cannot be compared; "
            "use the grid 'word_ends'"
        )
    without = [name for name, reader in readers.items() if not reader.spec.has_spans]
    if grid == "word_ends" and without:
        raise InvalidInput(no_spans(", ".join(sorted(without))))
    return grid


def _shared_documents(
    readers: Mapping[str, RecordingReader], steps: Mapping[str, Sequence[int]]
) -> dict[int, list[Document]]:
    """Return what each recording holds of every document that all of them have, by id."""
    tables = {name: _documents_at(found, steps.get(name, ())) for name, found in readers.items()}
    first, *others = tables.values()
    shared = sorted(name for name in first if all(name in table for table in others))
    if not shared:
        counts = ", ".join(
            f"{name} has {len(table)}{_at(steps.get(name, ()))}" for name, table in tables.items()
        )
        raise NoSharedDocuments(
            f"0 documents are in all recordings ({counts}); record the same texts with each model"
        )
    variants = {name: [table[name] for table in tables.values()] for name in shared}
    for name, found in variants.items():
        if len({document.key for document in found}) > 1:
            raise DocumentMismatch(
                f"document {name:016x} has different keys in {', '.join(tables)}; "
                "record the same texts with each model"
            )
    return variants


def _documents_at(reader: RecordingReader, steps: Sequence[int]) -> dict[int, Document]:
    """Return the documents that have rows at each of some training steps; all for none."""
    found = reader.documents()
    for step in steps:
        known = reader.known_documents(step)
        found = {name: document for name, document in found.items() if name in known}
    return found


def _at(steps: Sequence[int]) -> str:
    return f" at each of the training steps {', '.join(map(str, steps))}" if steps else ""


def _held_out(shared: dict[int, list[Document]], holdout: float) -> dict[int, list[Document]]:
    kept = {
        name: variants
        for name, variants in shared.items()
        if all(document.split_position < holdout for document in variants)
    }
    if not kept:
        raise EmptyProbe(
            f"{len(shared)} documents are shared and 0 of them held out at holdout {holdout}; "
            "record more documents (or more groups of them), or train with a larger holdout"
        )
    return kept


def _segments(
    readers: Mapping[str, RecordingReader], grid: Grid, shared: dict[int, list[Document]]
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64] | None]:
    """Return document index, span, stratum and, of words, case-folded stratum of every segment."""
    if grid == "tokens":
        documents, position, token_id = _token_segments(readers, list(shared))
        span, stratum = np.stack([position, position], axis=1), token_strata(token_id)
        folded = None
    else:
        documents, span, words = _word_segments(shared)
        stratum, folded = text_strata(words), text_strata(words, is_folded=True)
    if not len(span):
        raise EmptyProbe(
            f"{len(shared)} shared documents are held out and none has a segment; "
            "record documents with text"
        )
    return documents, span, stratum, folded


def _word_segments(
    shared: dict[int, list[Document]],
) -> tuple[NDArray[np.int64], NDArray[np.uint32], list[str]]:
    """Cut every document that has text: document index, span and text of each word."""
    index: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    spans: list[NDArray[np.uint32]] = [np.empty((0, 2), np.uint32)]
    words: list[str] = []
    for n, variants in enumerate(shared.values()):
        text = next((found.text for found in variants if found.text is not None), "")
        cut = word_segments(text)
        index.append(np.full(len(cut), n, np.int64))
        spans.append(cut)
        words.extend(text[start:stop] for start, stop in cut.tolist())
    return np.concatenate(index), np.concatenate(spans), words


def _token_segments(
    readers: Mapping[str, RecordingReader], ids: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]]:
    """Return document index, position and token id of every token that any recording has."""
    wanted = np.array(ids, np.uint64)
    columns: list[tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]]] = []
    for reader in readers.values():
        tokens = reader.tokens()
        document = document_index(wanted, np.asarray(tokens.document, np.uint64))
        here = document >= 0
        position = np.asarray(tokens.position[here], np.uint32)
        columns.append((document[here], position, np.asarray(tokens.token_id[here], np.uint32)))
    document = np.concatenate([column[0] for column in columns])
    position = np.concatenate([column[1] for column in columns])
    token_id = np.concatenate([column[2] for column in columns])
    order = np.lexsort((token_id, position, document))
    document, position, token_id = document[order], position[order], token_id[order]
    same = (np.diff(document) == 0) & (np.diff(position) == 0)
    differing = np.flatnonzero(same & (np.diff(token_id) != 0))
    if len(differing):
        at = differing[0]
        raise DocumentMismatch(
            f"document {ids[document[at]]:016x} has tokens {token_id[at]} and {token_id[at + 1]} "
            f"at position {position[at]} of {', '.join(readers)}; record them with the same "
            "tokenizer settings (special tokens, truncation), or use the grid 'word_ends'"
        )
    first = np.concatenate([[True], ~same])[: len(document)]
    return document[first], position[first], token_id[first]


def _source_names(chosen: Sequence[list[Document]]) -> list[bytes]:
    """Name the source of each document: its group (the first of several), or itself."""
    groups = [
        min(v.group for v in variants) or max(v.group for v in variants) for variants in chosen
    ]
    return [
        group.encode("utf-8", "surrogatepass") if group else variants[0].key
        for group, variants in zip(groups, chosen, strict=True)
    ]


def _halves(sources: list[bytes], seed: int) -> NDArray[np.int8]:
    """One half per source."""
    half = halves(sources, seed)
    if half.min() == half.max():
        raise EmptyProbe(
            f"{len(sources)} shared held-out documents in {len(set(sources))} groups all fall in "
            "one half, so that none is left to confirm what others chose; record more groups of "
            f"documents, or use another seed than {seed}"
        )
    return half
