"""Run a model over documents and give the rows of its sites, with what each row is."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.passes.documents import BATCH_FIRST, DocumentPasses, PassSettings
from isogloss.models.passes.overflow import overflows
from isogloss.models.resolve import device_of
from isogloss.models.sites import Site, site_names
from isogloss.models.texts import TextDocument
from isogloss.models.tokens import (
    EncodedDocument,
    Encoder,
    encode_token_ids,
    encoder,
    pad_id,
    token_limit,
)
from isogloss.models.wrappers import LoadedModel, unwrapped
from isogloss.short_repr import short_repr

_log = logging.getLogger(__name__)

_DOCUMENTS_PER_ENCODING = 64

Documents = Sequence[TextDocument] | Sequence[Sequence[int]]
"""Texts; or token ids, for a model that comes without a tokenizer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CapturedRows:
    """Consecutive rows of a model over documents: whole documents, in their order."""

    index: int
    """Number of the piece, from 0."""
    sites: Mapping[str, Float[Tensor, "rows _width"]]
    """Activations of each site, ``[rows, width]``, on the CPU."""
    token_id: NDArray[np.uint32]
    """``[rows]``."""
    position: NDArray[np.uint32]
    """Place of each row among the rows of its document, from 0, ``[rows]``."""
    span: NDArray[np.uint32] | None
    """Code points ``[start, end)`` in the document's text, ``[rows, 2]``; None: not known."""
    document_index: NDArray[np.int64]
    """For each row, the position of its document in the given list, ``[rows]``, ascending."""

    __repr__ = short_repr

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.token_id)


@dataclass(frozen=True, kw_only=True)
class RecordProgress:
    """How much of a recording is done, counting the pieces skipped through ``start`` as done."""

    documents: int
    """Documents done."""
    total_documents: int
    """Documents given."""
    rows: int
    """Rows done."""
    truncated_documents: int
    """Documents that were longer than ``max_tokens``."""
    dropped_tokens: int
    """Content tokens cut off at ``max_tokens``."""
    empty_documents: int
    """Documents without any content token: they have no row."""
    overflows: Mapping[str, int] = field(default_factory=dict[str, int])
    """For each site the numbers that are finite in the model and infinite in ``dtype``."""

    __repr__ = short_repr


@dataclass(kw_only=True)
class _Piece:
    """Encoded documents that become one :class:`CapturedRows`."""

    first: int
    documents: list[EncodedDocument] = field(default_factory=list[EncodedDocument])
    rows: int = 0


def record(
    model: LoadedModel,
    documents: Documents,
    sites: Sequence[str | Site],
    *,
    batch_rows: int = 8192,
    forward_tokens: int = 2048,
    max_tokens: int = 512,
    dtype: torch.dtype = torch.bfloat16,
    precision: Literal["float32", "bfloat16"] = "float32",
    start: int = 0,
    on_progress: Callable[[RecordProgress], None] | None = None,
    call: int | None = None,
    layout: Literal["batch_first"] | None = None,
) -> Iterator[CapturedRows]:
    """Run a model over documents and yield the activations at its sites, piece by piece.

    A row is a content token: special tokens (also where a text spells one) and padding are left
    out. A piece holds the rows of some whole documents. Documents of similar length share a pass;
    rows come in the documents' order all the same. The pieces depend on the arguments alone: after
    ``n`` of them the same call with ``start=n`` goes on.

    The model computes in its own dtype. ``precision="bfloat16"`` runs its matrix products in
    bfloat16 by autocast: on a CPU with AVX512-BF16 2.0 times as fast (MPNet 0.33 against 0.68 s
    per 1,000 tokens), and off by 0.006 % of the variance; slower where the CPU lacks it.

    Args:
        model: module and tokenizer. Without a tokenizer the documents are token ids.
        documents: texts, or token ids for a model without tokenizer.
        sites: names, or sites of :func:`isogloss.models.resolve_sites`.
        batch_rows: a piece ends with the document that brings it to so many rows.
        forward_tokens: most tokens of one forward pass, padding counted.
        max_tokens: longest input, special tokens counted; the progress counts what is cut off.
        dtype: dtype of the yielded activations.
        precision: dtype of the model's matrix products, see above.
        start: how many pieces to leave out at the beginning.
        on_progress: called after each piece.
        call: which call to read of a site called several times in one pass, such as 0 or -1.
        layout: ``batch_first``: outputs are ``[batch, tokens, width]``. None: their sizes tell.

    Raises:
        UnknownSite: a site is no submodule.
        ShapeError: while running, when a site gives no row for each token.
        InvalidInput: a setting cannot be used, or a site is not called once for the tokens.
    """
    _check(batch_rows, forward_tokens, dtype, precision, layout)
    module, tokenizer = unwrapped(model.module), model.tokenizer
    longest = _longest(max_tokens, token_limit(module, tokenizer))
    settings = PassSettings(
        forward_tokens=forward_tokens,
        autocast=precision == "bfloat16",
        longest=longest,
        pad_id=pad_id(tokenizer),
        call=call,
        layout=None if layout is None else BATCH_FIRST,
    )
    run = _Run(DocumentPasses(module, sites, settings, device_of(module)), site_names(sites), dtype)
    encoding = None if tokenizer is None else encoder(tokenizer, longest)
    pieces = _pieces(documents, encoding, longest, batch_rows)
    return _record(run, pieces, len(documents), start, on_progress)


def _longest(max_tokens: int, limit: int | None) -> int:
    longest = max_tokens if limit is None else min(max_tokens, limit)
    if longest < 1:
        raise InvalidInput(f"max_tokens is {max_tokens}; it must be at least 1")
    return longest


def _check(
    batch_rows: int, forward_tokens: int, dtype: torch.dtype, precision: str, layout: str | None
) -> None:
    for name, value in (("batch_rows", batch_rows), ("forward_tokens", forward_tokens)):
        if value < 1:
            raise InvalidInput(f"{name} is {value}; it must be at least 1")
    if not dtype.is_floating_point:
        raise InvalidInput(f"dtype is {dtype}; activations need a floating-point type")
    if precision not in ("float32", "bfloat16"):
        raise InvalidInput(f"precision is {precision!r}; wanted 'float32' or 'bfloat16'")
    if layout not in (None, "batch_first"):
        raise InvalidInput(f"layout is {layout!r}; wanted 'batch_first' or None")


def _record(
    run: "_Run",
    pieces: Iterator[_Piece],
    total: int,
    start: int,
    on_progress: Callable[[RecordProgress], None] | None,
) -> Iterator[CapturedRows]:
    progress = RecordProgress(
        documents=0,
        total_documents=total,
        rows=0,
        truncated_documents=0,
        dropped_tokens=0,
        empty_documents=0,
    )
    literal = 0
    for index, piece in enumerate(pieces):
        progress = _advance(progress, piece)
        literal += sum(document.literal for document in piece.documents)
        if index >= start and piece.rows:
            yield run.capture(index, piece)
            progress = replace(progress, overflows=dict(run.overflows))
        if on_progress is not None:
            on_progress(progress)
    if literal:
        _log.warning(
            "%d special tokens stand in the texts themselves: they have no rows, as everywhere",
            literal,
        )


def _advance(progress: RecordProgress, piece: _Piece) -> RecordProgress:
    dropped = [document.dropped for document in piece.documents]
    return RecordProgress(
        documents=progress.documents + len(piece.documents),
        total_documents=progress.total_documents,
        rows=progress.rows + piece.rows,
        truncated_documents=progress.truncated_documents + sum(n > 0 for n in dropped),
        dropped_tokens=progress.dropped_tokens + sum(dropped),
        empty_documents=progress.empty_documents
        + sum(not document.content.any() for document in piece.documents),
        overflows=progress.overflows,
    )


def _pieces(
    documents: Documents, encoding: Encoder | None, max_tokens: int, batch_rows: int
) -> Iterator[_Piece]:
    piece = _Piece(first=0)
    for first in range(0, len(documents), _DOCUMENTS_PER_ENCODING):
        block = documents[first : first + _DOCUMENTS_PER_ENCODING]
        for document in _encode(block, encoding, max_tokens):
            piece.documents.append(document)
            piece.rows += int(document.content.sum())
            if piece.rows >= batch_rows:
                yield piece
                piece = _Piece(first=piece.first + len(piece.documents))
    if piece.documents:
        yield piece


def _encode(
    documents: Documents, encoding: Encoder | None, max_tokens: int
) -> list[EncodedDocument]:
    texts = [document.text for document in documents if isinstance(document, TextDocument)]
    ids = [document for document in documents if not isinstance(document, TextDocument | str)]
    if encoding is not None and len(texts) == len(documents):
        return encoding.encode(texts)
    if encoding is None and len(ids) == len(documents):
        return [encode_token_ids(document, max_tokens) for document in ids]
    has = "has a tokenizer: give TextDocument(text=...)"
    has_not = "has no tokenizer: give lists of token ids, or a tokenizer"
    raise InvalidInput(
        f"of {len(documents)} documents {len(texts)} are texts and {len(ids)} token ids, and the "
        f"model "
        f"{has_not if encoding is None else has}"
    )


class _Run:
    """A model with hooks at its sites, fed with pieces."""

    def __init__(self, passes: DocumentPasses, names: Sequence[str], dtype: torch.dtype) -> None:
        self._passes = passes
        self._names = names
        self._dtype = dtype
        self.overflows: Counter[str] = Counter()

    def capture(self, index: int, piece: _Piece) -> CapturedRows:
        documents = piece.documents
        counts = [int(document.content.sum()) for document in documents]
        ends = np.cumsum(counts)
        out: dict[str, Tensor] = {}
        with self._passes.entered():
            for batch in self._passes.batches(documents):
                found = self._passes.rows([documents[i] for i in batch])
                for name in self._names:
                    rows = found[name].to("cpu", self._dtype)
                    if lost := overflows(found[name], rows):
                        self.overflows[name] += lost
                    if name not in out:
                        out[name] = torch.empty((piece.rows, rows.shape[1]), dtype=self._dtype)
                    parts = rows.split([counts[i] for i in batch])
                    for i, part in zip(batch, parts, strict=True):
                        out[name][ends[i] - counts[i] : ends[i]] = part
        token_ids = [document.input_ids[document.content] for document in documents]
        spans = [d.span[d.content] for d in documents if d.span is not None]
        return CapturedRows(
            index=index,
            sites=out,
            token_id=np.concatenate(token_ids).astype(np.uint32),
            position=np.concatenate([np.arange(count) for count in counts]).astype(np.uint32),
            span=np.concatenate(spans) if len(spans) == len(documents) else None,
            document_index=np.repeat(np.arange(len(counts)) + piece.first, counts),
        )
