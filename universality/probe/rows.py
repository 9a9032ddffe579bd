"""Find the row of a recording that stands for each segment of a probe."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import (
    DocumentMismatch,
    InvalidInput,
    NoSharedDocuments,
)
from isogloss.store import Document, RecordingReader
from isogloss.universality.probe.grid import token_rows, word_end_rows
from isogloss.universality.probe.hashing import segment_keys, token_strata
from isogloss.universality.probe.probe import Probe


def segment_rows(
    probe: Probe, reader: RecordingReader, steps: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Find for each segment of a probe the row of a recording that stands for it.

    The row is that of the segment's token or, where segments are words (``probe.grid`` is
    ``word_ends``), of the last token that ends in the word.

    Args:
        probe: the segments.
        reader: reads a recording that holds documents of the probe. It need not be one of the
            recordings that the probe was made of.
        steps: the training steps whose rows may stand for segments, of several the first row;
            None: the one that the recording has.

    Returns:
        ``[segments]``, a row of the reader, or -1 where the recording has no token for the segment.

    Raises:
        InvalidInput: the segments are words, and the recording does not say which code points of
            the text each token covers; or ``steps`` is None and the recording has rows of several
            training steps, or it names one without rows.
        NoSharedDocuments: the recording holds none of the probe's documents, or none at the steps.
        DocumentMismatch: the recording holds another document under the same id, or a document with
            other tokens.
    """
    _check_documents(probe, reader)
    tokens = reader.tokens()
    document = document_index(probe.documents, np.asarray(tokens.document, np.uint64))
    document = _at_steps(probe, reader, document, steps)
    position = np.asarray(tokens.position, np.uint32)
    if probe.grid == "tokens":
        rows = token_rows(probe.segment_document, probe.segment_span[:, 1], document, position)
        found = rows >= 0
        token_id = np.asarray(tokens.token_id[rows[found]], np.uint32)
        _check_tokens(probe.stratum_token[found], token_id, reader)
        return rows
    if tokens.span is None:
        raise InvalidInput(no_spans(reader.spec.recording))
    span = np.asarray(tokens.span, np.uint32)
    return word_end_rows(probe.segment_document, probe.segment_span, document, position, span)


def _at_steps(
    probe: Probe,
    reader: RecordingReader,
    document: NDArray[np.int64],
    steps: Sequence[int] | None,
) -> NDArray[np.int64]:
    """Return the index of each row's document, -1 where the row is of another training step."""
    chosen = reader.chosen_steps(steps)
    if len(chosen) == len(reader.rows_of_steps()):
        return document
    document = np.where(reader.keep_steps(chosen), document, -1)
    if not (document >= 0).any():
        raise NoSharedDocuments(
            f"recording {reader.spec.recording!r} has rows of 0 of the probe's "
            f"{len(probe.documents)} documents at training step {', '.join(map(str, chosen))}: "
            "record the same texts at each step, or name another one by steps"
        )
    return document


def no_spans(recordings: str) -> str:
    """Say that recordings cannot be compared on words, and what to do."""
    return (
        f"{recordings}: recorded without spans, which comparing words needs; record again with a "
        "fast tokenizer, or compare recordings of one tokenizer on the grid 'tokens'"
    )


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
        document_keys([held[int(probe.documents[n])] for n in here]),
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


def document_keys(documents: Sequence[Document]) -> NDArray[np.uint64]:
    """Return the first 16 bytes of each document's key as two integers, ``[documents, 2]``."""
    joined = b"".join(document.key[:16] for document in documents)
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


def document_index(ids: NDArray[np.uint64], document: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Place of each document among ascending ids; -1 where it is not one of them."""
    at = np.minimum(np.searchsorted(ids, document), len(ids) - 1)
    return np.where(ids[at] == document, at, -1)
