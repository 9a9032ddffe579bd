"""Run a model over documents and give the rows of its sites, with what each row is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models.hooks import Capture, evaluating
from isogloss.models.load import LoadedModel
from isogloss.models.resolve import device_of, forward_parameters, row_width
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
    """Position in the model's input, special tokens counted, ``[rows]``."""
    span: NDArray[np.uint32] | None
    """Code points ``[start, end)`` in the document's text, ``[rows, 2]``; None: not known."""
    document_index: NDArray[np.int64]
    """For each row, the position of its document in the given list, ``[rows]``, ascending."""

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


@dataclass(frozen=True, kw_only=True)
class _Settings:
    batch_rows: int
    forward_tokens: int
    dtype: torch.dtype
    autocast: bool

    def __post_init__(self) -> None:
        for name, value in (
            ("batch_rows", self.batch_rows),
            ("forward_tokens", self.forward_tokens),
        ):
            if value < 1:
                raise InvalidInput(f"{name} is {value}; it must be at least 1")
        if not self.dtype.is_floating_point:
            raise InvalidInput(f"dtype is {self.dtype}; activations need a floating-point type")


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
) -> Iterator[CapturedRows]:
    """Run a model over documents and yield the activations at its sites, piece by piece.

    A row is a content token: special tokens and padding are left out. A piece is a
    :class:`CapturedRows`: the rows of some whole documents. Documents of similar length share a
    forward pass; rows come in the documents' order all the same. The pieces depend on nothing but
    the arguments. So a recording that broke off after ``n`` pieces goes on where it was when the
    same call is made again with ``start=n``.

    The model computes in its own dtype (float32 from :func:`load_model`). ``precision="bfloat16"``
    runs its matrix products in bfloat16 by autocast: on a CPU with AVX512-BF16 2.0 times as fast
    (MPNet 0.33 against 0.68 s per 1,000 tokens), and off by 0.006 % of the variance; slower where
    the CPU lacks it.

    Args:
        model: module and tokenizer. Without a tokenizer the documents are token ids. Where the
            module takes no ``attention_mask``, only documents of equal length share a pass.
        documents: texts, or token ids for a model without tokenizer.
        sites: names, or sites of :func:`isogloss.models.resolve_sites`.
        batch_rows: a piece ends with the document that brings it to so many rows.
        forward_tokens: most tokens of one forward pass, padding counted.
        max_tokens: longest input, special tokens counted; the progress counts what is cut off.
        dtype: dtype of the yielded activations.
        precision: dtype of the model's matrix products, see above.
        start: how many pieces to leave out at the beginning.
        on_progress: called after each piece.

    Raises:
        UnknownSite: a site is no submodule.
        ShapeError: while running, when a site does not give ``[batch, tokens, width]``.
        InvalidInput: texts are given and there is no tokenizer, or a setting cannot be used.
    """
    settings = _Settings(
        batch_rows=batch_rows,
        forward_tokens=forward_tokens,
        dtype=dtype,
        autocast=precision == "bfloat16",
    )
    if precision not in ("float32", "bfloat16"):
        raise InvalidInput(f"precision is {precision!r}; wanted 'float32' or 'bfloat16'")
    limit = token_limit(model.module, model.tokenizer)
    longest = max_tokens if limit is None else min(max_tokens, limit)
    if longest < 1:
        raise InvalidInput(f"max_tokens is {max_tokens}; it must be at least 1")
    encoding = None if model.tokenizer is None else encoder(model.tokenizer, longest)
    run = _Run(model, sites, settings)
    pieces = _pieces(documents, encoding, longest, batch_rows)
    return _record(run, pieces, len(documents), start, on_progress)


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
    for index, piece in enumerate(pieces):
        progress = _advance(progress, piece)
        if index >= start and piece.rows:
            yield run.capture(index, piece)
        if on_progress is not None:
            on_progress(progress)


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

    def __init__(
        self, model: LoadedModel, sites: Sequence[str | Site], settings: _Settings
    ) -> None:
        self._module = model.module
        self._settings = settings
        self._seen = Capture(model.module, sites, stop_early=True)
        self._names = site_names(sites)
        self._widths = {site.name: site.width for site in sites if isinstance(site, Site)}
        self._arguments = forward_parameters(model.module)
        self._pad = pad_id(model.tokenizer)

    def capture(self, index: int, piece: _Piece) -> CapturedRows:
        documents = piece.documents
        counts = [int(document.content.sum()) for document in documents]
        ends = np.cumsum(counts)
        out: dict[str, Tensor] = {}
        with torch.inference_mode(), evaluating(self._module), self._seen:
            for batch in self._batches(documents):
                self._forward([documents[i] for i in batch])
                content = self._content([documents[i] for i in batch])
                for name in self._names:
                    rows = self._rows(name, content)
                    if name not in out:
                        shape = (piece.rows, rows.shape[1])
                        out[name] = torch.empty(shape, dtype=self._settings.dtype)
                    parts = rows.split([counts[i] for i in batch])
                    for i, part in zip(batch, parts, strict=True):
                        out[name][ends[i] - counts[i] : ends[i]] = part
        tokens = [(d.input_ids[d.content], np.flatnonzero(d.content)) for d in documents]
        spans = [d.span[d.content] for d in documents if d.span is not None]
        return CapturedRows(
            index=index,
            sites=out,
            token_id=np.concatenate([ids for ids, _ in tokens]).astype(np.uint32),
            position=np.concatenate([position for _, position in tokens]).astype(np.uint32),
            span=np.concatenate(spans) if len(spans) == len(documents) else None,
            document_index=np.repeat(np.arange(len(counts)) + piece.first, counts),
        )

    def _batches(self, documents: Sequence[EncodedDocument]) -> Iterator[list[int]]:
        """Yield indices of documents of similar length, so that little is padding."""
        lengths = [len(document.input_ids) for document in documents]
        order = [i for i, document in enumerate(documents) if document.content.any()]
        order.sort(key=lambda i: (lengths[i], i))
        may_pad = "attention_mask" in self._arguments
        batch: list[int] = []
        for i in order:
            full = lengths[i] * (len(batch) + 1) > self._settings.forward_tokens
            other_length = bool(batch) and not may_pad and lengths[i] != lengths[batch[0]]
            if batch and (full or other_length):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _forward(self, documents: Sequence[EncodedDocument]) -> None:
        lengths = [len(document.input_ids) for document in documents]
        shape = (len(documents), max(lengths))
        ids = np.full(shape, self._pad, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for i, document in enumerate(documents):
            ids[i, : lengths[i]] = document.input_ids
            mask[i, : lengths[i]] = 1
        device = device_of(self._module)
        inputs: dict[str, object] = {}
        if "attention_mask" in self._arguments:
            inputs["attention_mask"] = torch.from_numpy(mask).to(device)
        if "use_cache" in self._arguments:
            inputs["use_cache"] = False
        autocast = self._settings.autocast
        with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
            if "input_ids" in self._arguments:
                self._seen.run(input_ids=torch.from_numpy(ids).to(device), **inputs)
            else:
                self._seen.run(torch.from_numpy(ids).to(device), **inputs)

    def _content(self, documents: Sequence[EncodedDocument]) -> Tensor:
        longest = max(len(document.input_ids) for document in documents)
        mask = np.zeros((len(documents), longest), dtype=np.bool_)
        for i, document in enumerate(documents):
            mask[i, : len(document.content)] = document.content
        return torch.from_numpy(mask)

    def _rows(self, name: str, content: Tensor) -> Tensor:
        """Return a site's content rows of the last forward pass, ``[rows, width]``."""
        output = self._seen[name]
        width = row_width(output, name)
        if output.shape[:2] != content.shape or self._widths.get(name, width) != width:
            raise ShapeError(
                f"site {name!r} gives {tuple(output.shape)} for tokens {tuple(content.shape)}; "
                f"wanted "
                f"[batch, tokens, width {self._widths.get(name, width)}]; choose another submodule"
            )
        rows = output[content.to(output.device)].flatten(1)
        return rows.to("cpu", self._settings.dtype)
