"""Probes: the documents, and the segments in them, on which features are compared.

A probe holds documents that every recording has and none trained on. Its segments have names
(``keys``) that depend on the document and the place alone, so what is computed for one dictionary
stays valid when another model joins.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import (
    CorruptData,
    DocumentMismatch,
    EmptyProbe,
    InvalidInput,
    NoSharedDocuments,
)
from isogloss.store import Document, RecordingReader, read_arrays, write_arrays
from isogloss.universality.formats import attribute, check_kind, column
from isogloss.universality.grid import SEGMENTER, Grid, token_rows, word_end_rows, word_segments
from isogloss.universality.hashing import halves, segment_keys, text_strata, token_strata

_VERSION = 1
_ARRAYS = (
    "documents",
    "segment_document",
    "segment_source",
    "segment_span",
    "stratum_token",
    "stratum_position",
    "half",
    "keys",
)


@dataclass(frozen=True, kw_only=True)
class ProbeOrigin:
    """How a probe was cut."""

    holdout: float
    """Documents with ``split_position`` below this were held out of training."""

    seed: int
    """Of the split into halves."""

    segmenter: str
    """What found the words, with its version; ``"tokens"`` on the token grid."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Segments of held-out documents, in order of document and place."""

    id: str
    """Its name in the store."""

    uid: str
    """Its directory in the store; by default the start of :attr:`digest`."""

    recordings: tuple[tuple[str, str, str], ...]
    """Id, uid and revision id of each recording it was built from."""

    grid: Grid
    """What a segment is: a token (one tokenizer everywhere) or a word of the text."""

    origin: ProbeOrigin
    """How it was cut."""

    documents: NDArray[np.uint64]
    """Ids of the documents, ascending, ``[documents]``."""

    segment_document: NDArray[np.int32]
    """Index into ``documents``, ascending, ``[segments]``."""

    segment_source: NDArray[np.int32]
    """Which source (group of documents) the segment comes from: the independent unit of the text,
    numbered from 0, ``[segments]``."""

    segment_span: NDArray[np.uint32]
    """Code points ``[start, end)``; on the token grid the position twice, ``[segments, 2]``."""

    stratum_token: NDArray[np.int64]
    """Hash of the token id, or of the word's case-folded text, ``[segments]``."""

    stratum_position: NDArray[np.int32]
    """Index of the segment within its document, ``[segments]``."""

    half: NDArray[np.int8]
    """0: rows that choose pairs, 1: rows that report on them; one half per group of documents."""

    keys: NDArray[np.uint64]
    """Name of each segment: a hash of its document's key and its end, ``[segments]``."""

    def __post_init__(self) -> None:
        if not self.segments:
            raise EmptyProbe("the probe holds 0 segments; at least one is needed")
        for name in _ARRAYS[1:]:
            found = len(getattr(self, name))
            if found != self.segments:
                raise InvalidInput(
                    f"{name} has {found} rows, keys {self.segments}; they must agree"
                )

    @property
    def segments(self) -> int:
        """Number of segments, N."""
        return len(self.keys)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the segments and their halves and strata: what results depend on."""
        hashed = hashlib.sha256(f"{self.grid} {self.origin.segmenter}".encode())
        for name in _ARRAYS:
            hashed.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return hashed.hexdigest()

    @cached_property
    def token_labels(self) -> NDArray[np.int64]:
        """``stratum_token`` numbered from 0, ``[segments]``."""
        return np.unique(self.stratum_token, return_inverse=True)[1].astype(np.int64)

    def save(self, directory: Path) -> None:
        """Write the probe to a directory, whole or not at all.

        Raises:
            StorageError: the storage refused.
        """
        attributes: dict[str, object] = {
            "kind": "probe",
            "version": _VERSION,
            "id": self.id,
            "uid": self.uid,
            "recordings": [list(names) for names in self.recordings],
            "grid": self.grid,
            "origin": asdict(self.origin),
            "digest": self.digest,
        }
        write_arrays(directory, {name: getattr(self, name) for name in _ARRAYS}, attributes)

    @staticmethod
    def load(directory: Path) -> "Probe":
        """Read a probe.

        Raises:
            NotFound: the directory holds no arrays.
            UnsupportedVersion: a later release wrote it.
            CorruptData: its bytes are not what was written.
        """
        arrays, attributes = read_arrays(directory)
        check_kind(attributes, directory, "probe", _VERSION)
        origin = attributes.get("origin")
        recordings = attributes.get("recordings")
        grid = attribute(attributes, "grid", str)
        if not isinstance(origin, dict) or not isinstance(recordings, list):
            raise CorruptData(f"{directory}: origin is {origin!r} and recordings {recordings!r}")
        probe = Probe(
            id=attribute(attributes, "id", str),
            uid=attribute(attributes, "uid", str),
            recordings=tuple((str(name), str(uid), str(rev)) for name, uid, rev in recordings),
            grid="tokens" if grid == "tokens" else "word_ends",
            origin=ProbeOrigin(
                holdout=attribute(origin, "holdout", float),
                seed=attribute(origin, "seed", int),
                segmenter=attribute(origin, "segmenter", str),
            ),
            documents=column(arrays, "documents", np.uint64),
            segment_document=column(arrays, "segment_document", np.int32),
            segment_source=column(arrays, "segment_source", np.int32),
            segment_span=column(arrays, "segment_span", np.uint32),
            stratum_token=column(arrays, "stratum_token", np.int64),
            stratum_position=column(arrays, "stratum_position", np.int32),
            half=column(arrays, "half", np.int8),
            keys=column(arrays, "keys", np.uint64),
        )
        written = attribute(attributes, "digest", str)
        if probe.digest != written:
            raise CorruptData(
                f"{directory}: segments hash to {probe.digest[:16]}, {written[:16]} was written; "
                "build the probe again"
            )
        return probe


def build_probe(
    readers: Mapping[str, RecordingReader],
    *,
    holdout: float = 0.25,
    seed: int = 0,
    grid: Grid | None = None,
    probe_id: str = "probe",
    uid: str = "",
) -> Probe:
    """Cut a probe from the documents that all recordings share and none trained on.

    Args:
        readers: the recordings, by id.
        holdout: documents with ``split_position`` below this were held out; as in training.
        seed: of the split into halves.
        grid: what a segment is; None: tokens when all recordings have one tokenizer, else words.
            Only the word grid stays the same when a model with another tokenizer joins.
        probe_id: name of the probe in the store.
        uid: its directory; empty: the start of its digest.

    Raises:
        InvalidInput: no recording, ``holdout`` outside (0, 1], or the grid does not fit them.
        NoSharedDocuments: no document is in all recordings.
        EmptyProbe: none of the shared documents is held out, has text, or one half has none.
        DocumentMismatch: two recordings differ in a document or in its tokens.
    """
    if not 0 < holdout <= 1:
        raise InvalidInput(f"holdout is {holdout}, wanted a share in (0, 1]")
    grid = _check_grid(readers, grid)
    shared = _held_out(_shared_documents(readers), holdout)
    documents, span, stratum = _segments(readers, grid, shared)
    # Documents without a segment (no text, no recorded token) leave the probe.
    kept, document = np.unique(documents, return_inverse=True)
    variants = list(shared.values())
    chosen = [variants[n] for n in kept.tolist()]
    names = _source_names(chosen)
    source = np.unique(np.array(names, object), return_inverse=True)[1].astype(np.int32)
    probe = Probe(
        id=probe_id,
        uid=uid,
        recordings=tuple(
            (name, reader.revision.recording, reader.revision.id)
            for name, reader in readers.items()
        ),
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
        keys=segment_keys(_document_keys([found[0] for found in chosen]), document, span[:, 1]),
    )
    return probe if uid else replace(probe, uid=probe.digest[:32])


def _index_within(document: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number the segments of each document from 0."""
    firsts = np.searchsorted(document, np.arange(document[-1] + 1))
    return (np.arange(len(document)) - firsts[document]).astype(np.int32)


def segment_rows(probe: Probe, reader: RecordingReader) -> NDArray[np.int64]:
    """Find the row of a recording that stands for each segment.

    Args:
        probe: the segments.
        reader: any recording that holds the probe's documents, also one that joined later.

    Returns:
        ``[segments]``, a row of the reader, or -1 where the recording has no token there.

    Raises:
        InvalidInput: a word grid, and the recording has no spans.
        NoSharedDocuments: the recording holds none of the probe's documents.
        DocumentMismatch: it holds another document under the same id, or other tokens.
    """
    _check_documents(probe, reader)
    tokens = reader.tokens()
    document = _index(probe.documents, np.asarray(tokens.document, np.uint64))
    position = np.asarray(tokens.position, np.uint32)
    if probe.grid == "tokens":
        rows = token_rows(probe.segment_document, probe.segment_span[:, 1], document, position)
        found = rows >= 0
        token_id = np.asarray(tokens.token_id[rows[found]], np.uint32)
        _check_tokens(probe.stratum_token[found], token_id, reader)
        return rows
    if tokens.span is None:
        raise InvalidInput(_no_spans(reader.spec.recording))
    span = np.asarray(tokens.span, np.uint32)
    return word_end_rows(probe.segment_document, probe.segment_span, document, position, span)


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
        raise InvalidInput(_no_spans(", ".join(sorted(without))))
    return grid


def _no_spans(recordings: str) -> str:
    return (
        f"{recordings}: recorded without spans, which comparing words needs; record again with a "
        "fast tokenizer, or compare recordings of one tokenizer on the grid 'tokens'"
    )


def _shared_documents(readers: Mapping[str, RecordingReader]) -> dict[int, list[Document]]:
    """Return what each recording holds of every document that all of them have, by id."""
    tables = {name: reader.documents() for name, reader in readers.items()}
    first, *others = tables.values()
    shared = sorted(name for name in first if all(name in table for table in others))
    if not shared:
        counts = ", ".join(f"{name} has {len(table)}" for name, table in tables.items())
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
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.int64]]:
    """Return document index, span and stratum of every segment."""
    if grid == "tokens":
        documents, position, token_id = _token_segments(readers, list(shared))
        span, stratum = np.stack([position, position], axis=1), token_strata(token_id)
    else:
        documents, span, stratum = _word_segments(shared)
    if not len(span):
        raise EmptyProbe(
            f"{len(shared)} shared documents are held out and none has a segment; "
            "record documents with text"
        )
    return documents, span, stratum


def _word_segments(
    shared: dict[int, list[Document]],
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.int64]]:
    """Cut every document that has text: document index, span and stratum of each word."""
    index: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    spans: list[NDArray[np.uint32]] = [np.empty((0, 2), np.uint32)]
    words: list[str] = []
    for n, variants in enumerate(shared.values()):
        text = next((found.text for found in variants if found.text is not None), "")
        cut = word_segments(text)
        index.append(np.full(len(cut), n, np.int64))
        spans.append(cut)
        words.extend(text[start:stop] for start, stop in cut.tolist())
    return np.concatenate(index), np.concatenate(spans), text_strata(words)


def _token_segments(
    readers: Mapping[str, RecordingReader], ids: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]]:
    """Return document index, position and token id of every token that any recording has."""
    wanted = np.array(ids, np.uint64)
    columns: list[tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint32]]] = []
    for reader in readers.values():
        tokens = reader.tokens()
        document = _index(wanted, np.asarray(tokens.document, np.uint64))
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


def _check_documents(probe: Probe, reader: RecordingReader) -> None:
    held = reader.documents()
    here = [n for n, name in enumerate(probe.documents.tolist()) if name in held]
    if not here:
        raise NoSharedDocuments(
            f"recording {reader.spec.recording!r} holds 0 of the probe's {len(probe.documents)} "
            "documents; record the same texts with it"
        )
    first = np.searchsorted(probe.segment_document, np.array(here))
    keys = segment_keys(
        _document_keys([held[int(probe.documents[n])] for n in here]),
        np.arange(len(here), dtype=np.int32),
        probe.segment_span[first, 1],
    )
    wrong = np.flatnonzero(keys != probe.keys[first])
    if len(wrong):
        raise DocumentMismatch(
            f"document {int(probe.documents[here[wrong[0]]]):016x} of recording "
            f"{reader.spec.recording!r} is not the probe's; record the same texts"
        )


def _check_tokens(
    wanted: NDArray[np.int64], token_id: NDArray[np.uint32], reader: RecordingReader
) -> None:
    differing = int(np.count_nonzero(token_strata(token_id) != wanted))
    if differing:
        raise DocumentMismatch(
            f"{differing} of {len(wanted)} tokens of recording {reader.spec.recording!r} "
            f"(tokenizer {reader.spec.tokenizer!r}) are not the probe's; "
            "build a probe on the grid 'word_ends'"
        )


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


def _document_keys(documents: Sequence[Document]) -> NDArray[np.uint64]:
    joined = b"".join(document.key[:16] for document in documents)
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


def _index(ids: NDArray[np.uint64], document: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Place of each document among ascending ids; -1 where it is not one of them."""
    at = np.minimum(np.searchsorted(ids, document), len(ids) - 1)
    return np.where(ids[at] == document, at, -1)
