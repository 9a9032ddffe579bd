"""Find the places where a feature fires most, with the text around them, for a person to read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, NotFound, ShapeError
from isogloss.short_repr import short_repr
from isogloss.store import Document
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.probe.probe import Probe


@dataclass(frozen=True, kw_only=True)
class ContextPiece:
    """A run of text in a context, and how strongly the feature fires on it."""

    text: str
    """The text; the pieces of a context concatenate to its text."""
    value: float
    """Activation of the segment; 0 where it is silent, missing, or between segments."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """One place where a feature fires."""

    document: int
    """Id of the document."""
    segment: int
    """Number of the peak segment in the probe."""
    value: float
    """Activation at the peak."""
    text_before: str
    """Text before the peak, from the start of the window."""
    text_peak: str
    """Text of the peak segment."""
    text_after: str
    """Text after the peak, to the end of the window."""
    pieces: tuple[ContextPiece, ...]
    """The same text, cut into segments and the text between segments, each with its activation."""
    cut: tuple[bool, bool]
    """Whether the document goes on before and after the window."""

    __repr__ = short_repr

    @property
    def text(self) -> str:
        """The whole window."""
        return self.text_before + self.text_peak + self.text_after


def contexts(
    probed: ProbedDictionary,
    probe: Probe,
    documents: Mapping[int, Document],
    feature: int,
    count: int = 8,
    *,
    window: int = 12,
    spans: NDArray[np.integer] | None = None,
    tokens: Sequence[str] | None = None,
) -> list[Context]:
    """Return the places where a feature fires most strongly, strongest first.

    The best place of each document comes before the second best of any: a feature seen in eight
    documents says more than in one. Only where fewer documents than ``count`` have it, further
    places follow.

    Args:
        probed: the dictionary on the probe.
        probe: the probe.
        documents: documents by id, from a recording of the probe.
        feature: number of the feature.
        count: most places to return.
        window: segments shown on each side of the peak.
        spans: code points ``[start, end)`` of every segment, ``[segments, 2]``, where the probe's
            own spans are token positions (grid ``tokens``); from the recording's span column.
        tokens: text of every segment, for documents without text or segments without spans; the
            window is then these joined by spaces.

    Returns:
        At most ``count`` contexts; an empty list when the feature never fires on the probe.

    Raises:
        InvalidInput: the dictionary has no such feature, ``count`` is below 1, or neither text and
            spans nor ``tokens`` are given.
        NotFound: a document of the probe is not in ``documents``.
        ShapeError: ``spans`` or ``tokens`` do not have one entry a segment.
    """
    probed.check_feature(feature, min_fires=0)
    if count < 1 or window < 0:
        raise InvalidInput(f"count {count} must be at least 1 and window {window} at least 0")
    for name, given in (("spans", spans), ("tokens", tokens)):
        if given is not None and len(given) != probe.segments:
            raise ShapeError(f"{name} has {len(given)} entries, the probe {probe.segments}")
    rows, values = probed.codes.feature(feature)
    activation = dict(zip(rows.tolist(), values.tolist(), strict=True))
    source = _Source(
        probe=probe,
        documents=documents,
        spans=_code_points(probe, spans),
        tokens=tokens,
    )
    chosen = _spread_over_documents(rows, values, probe.segment_document, count)
    return [_context(source, activation, segment, window) for segment in chosen]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Source:
    """Gives the text of each segment."""

    probe: Probe
    documents: Mapping[int, Document]
    spans: NDArray[np.integer] | None
    tokens: Sequence[str] | None


def _code_points(probe: Probe, spans: NDArray[np.integer] | None) -> NDArray[np.integer] | None:
    if spans is not None:
        return spans
    return probe.segment_span if probe.grid == "word_ends" else None


def _spread_over_documents(
    rows: NDArray[np.integer],
    values: NDArray[np.floating],
    segment_document: NDArray[np.int32],
    count: int,
) -> list[int]:
    """Return the rows of the highest values, the best of each document first."""
    strongest = rows[np.lexsort((rows, -values))]
    _, first = np.unique(segment_document[strongest], return_index=True)
    leading = np.zeros(len(strongest), dtype=bool)
    leading[first] = True
    ordered = np.concatenate([strongest[leading], strongest[~leading]])[:count]
    height = dict(zip(rows.tolist(), values.tolist(), strict=True))
    return sorted((int(row) for row in ordered), key=lambda row: (-height[row], row))


def _context(source: _Source, activation: Mapping[int, float], peak: int, window: int) -> Context:
    index = int(source.probe.segment_document[peak])
    # segments are in order of document, so a document is one run
    first, last = np.searchsorted(source.probe.segment_document, [index, index + 1])
    start, stop = max(int(first), peak - window), min(int(last), peak + window + 1)
    document_id = int(source.probe.documents[index])
    document = source.documents.get(document_id)
    if document is None:
        raise NotFound(
            f"document {document_id:016x} of the probe is not among the {len(source.documents)} "
            "given; take them from a recording that the probe was built from"
        )
    if document.text is not None and source.spans is not None:
        pieces, at = _text_pieces(document.text, source.spans, activation, (start, peak, stop))
    elif source.tokens is not None:
        pieces, at = _token_pieces(source.tokens, activation, (start, peak, stop))
    else:
        raise InvalidInput(
            f"document {document_id:016x} has no text, or its segments no code points; give the "
            "recording's spans, or tokens, the text of every segment"
        )
    texts = [piece.text for piece in pieces]
    return Context(
        document=document_id,
        segment=peak,
        value=activation[peak],
        text_before="".join(texts[:at]),
        text_peak=texts[at],
        text_after="".join(texts[at + 1 :]),
        pieces=tuple(pieces),
        cut=(start > int(first), stop < int(last)),
    )


def _text_pieces(
    text: str,
    spans: NDArray[np.integer],
    activation: Mapping[int, float],
    window: tuple[int, int, int],
) -> tuple[list[ContextPiece], int]:
    """Cut the window out of the document's text; return its pieces and which is the peak."""
    start, peak, stop = window
    pieces: list[ContextPiece] = []
    at, cursor = 0, int(spans[start, 0])
    for segment in range(start, stop):
        begin, end = int(spans[segment, 0]), int(spans[segment, 1])
        if begin > cursor:
            pieces.append(ContextPiece(text=text[cursor:begin], value=0.0))
        if segment == peak:
            at = len(pieces)
        # byte-level tokens can share a code point: what was shown is not shown again
        begin = max(begin, cursor)
        pieces.append(ContextPiece(text=text[begin:end], value=activation.get(segment, 0.0)))
        cursor = max(cursor, end)
    return pieces, at


def _token_pieces(
    tokens: Sequence[str], activation: Mapping[int, float], window: tuple[int, int, int]
) -> tuple[list[ContextPiece], int]:
    """Join the tokens of the window by spaces; return its pieces and which is the peak."""
    start, peak, stop = window
    pieces: list[ContextPiece] = []
    at = 0
    for segment in range(start, stop):
        if segment > start:
            pieces.append(ContextPiece(text=" ", value=0.0))
        if segment == peak:
            at = len(pieces)
        pieces.append(ContextPiece(text=tokens[segment], value=activation.get(segment, 0.0)))
    return pieces, at
