"""Recording a model over documents: capture, append, and go on where an earlier run ended."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from isogloss import models
from isogloss.service.recording.appender import BatchStream
from isogloss.service.recording.description import Precision, describe
from isogloss.service.recording.route import Direct
from isogloss.service.values.results import RecordingInfo
from isogloss.store import Document, RecordingSpec, Revision, RowBatch

_BATCH_BYTES = 16 << 20


class RecordingClient(Protocol):
    """What recording needs of a client."""

    def create_recording(self, spec: RecordingSpec, vocabulary: Sequence[str]) -> RecordingInfo:
        """Create a recording, or return the equal one."""
        ...

    def recording(self, recording: str) -> RecordingInfo:
        """Return a recording."""
        ...

    def documents(
        self, recording: str, *, with_text: bool = True, revision: Revision | None = None
    ) -> dict[int, Document]:
        """Return the documents that are there."""
        ...

    def stream(
        self,
        recording: str,
        producer: str,
        *,
        direct: Direct = False,
        root: Path | str | None = None,
    ) -> BatchStream:
        """Open a producer's stream, whichever way it goes."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DocumentOptions:
    """How documents are recorded."""

    corpus: str = "documents"
    """Name of the text, for people."""
    producer: str = "documents"
    """Name of the stream of batches; two runs at a time need two names."""
    dtype: Precision = "bfloat16"
    """How a number is kept."""
    batch_rows: int = 8192
    """Rows of one batch; fewer where they would be more than 16 MiB."""
    max_tokens: int = 512
    """Longest input of the model, special tokens counted."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the model's matrix products; bfloat16 is twice as fast on a CPU that has AVX512-BF16."""
    direct: Direct = False
    """Whether rows go to the disk past the owner of the store; ``auto``: where that can be."""
    root: Path | str | None = None
    """The store as this machine sees it, for ``direct``; None: where its owner says."""


def record_documents(
    client: RecordingClient,
    model: "models.LoadedModel",
    documents: "Sequence[models.TextDocument] | Sequence[Sequence[int]]",
    *,
    sites: Sequence[str],
    recording: str,
    options: DocumentOptions,
    on_progress: "Callable[[models.RecordProgress], None] | None",
    on_route: Callable[[str], None] | None = None,
) -> RecordingInfo:
    """Record each document once; those that the recording has already are left out.

    A document's rows are in one batch, so it is there whole or not at all: a run that was broken
    off, here or at the server, goes on with the same rows in the same order.
    """
    # a Rust tokenizer, by itself or inside a fast one, knows where each token lies in the text
    backend = getattr(model.tokenizer, "backend_tokenizer", model.tokenizer)
    has_spans = hasattr(backend, "encode_batch")
    spec, vocabulary = describe(
        model,
        sites,
        recording=recording,
        corpus=options.corpus,
        dtype=options.dtype,
        has_spans=has_spans,
        provenance={"precision": options.precision, "max_tokens": str(options.max_tokens)},
    )
    client.create_recording(spec, vocabulary)
    with client.stream(
        recording, options.producer, direct=options.direct, root=options.root
    ) as appender:
        if on_route is not None:
            on_route(appender.route)
        # asked once the stream is open: what an earlier run sent is on disk by now, or lost
        done = set(client.documents(recording, with_text=False))
        _append(appender, model, documents, spec, options, done, on_progress)
    return client.recording(recording)


def _append(
    appender: BatchStream,
    model: "models.LoadedModel",
    documents: "Sequence[models.TextDocument] | Sequence[Sequence[int]]",
    spec: RecordingSpec,
    options: DocumentOptions,
    done: set[int],
    on_progress: "Callable[[models.RecordProgress], None] | None",
) -> None:
    # torch takes a second to import, and only a run that records needs it
    from isogloss.service.recording.tensors import DTYPES

    known = [_document(document) for document in documents]
    todo = _first_of_each([document.id for document in known], done)
    left = [documents[i] for i in todo]
    ids = np.array([known[i].id for i in todo], np.uint64)
    skipped = len(documents) - len(left)

    def report(progress: "models.RecordProgress") -> None:
        if on_progress is not None:
            on_progress(
                dataclasses.replace(
                    progress,
                    documents=progress.documents + skipped,
                    total_documents=len(documents),
                )
            )

    pieces = models.record(
        model,
        left,  # pyright: ignore[reportArgumentType] - as uniform as ``documents`` is
        [site.name for site in spec.sites],
        batch_rows=max(1, min(options.batch_rows, _BATCH_BYTES // spec.row_bytes)),
        max_tokens=options.max_tokens,
        dtype=DTYPES[options.dtype],
        precision=options.precision,
        on_progress=report,
    )
    for piece in pieces:
        described = [known[todo[i]] for i in np.unique(piece.document_index)]
        appender.write(_batch(spec, piece, appender, ids[piece.document_index], described))


def _document(document: "models.TextDocument | Sequence[int]") -> Document:
    if isinstance(document, models.TextDocument):
        return Document.from_text(document.text, document.group)
    return Document.from_token_ids(document)


def _first_of_each(ids: Sequence[int], done: set[int]) -> list[int]:
    """Return where each id not in ``done`` comes first, in order."""
    seen = set(done)
    first: list[int] = []
    for i, document in enumerate(ids):
        if document not in seen:
            seen.add(document)
            first.append(i)
    return first


def _batch(
    spec: RecordingSpec,
    piece: "models.CapturedRows",
    appender: BatchStream,
    documents: np.ndarray,
    described: Sequence[Document],
) -> RowBatch:
    # torch takes a second to import, and only a run that records needs it
    from isogloss.service.recording.tensors import to_numpy

    return RowBatch(
        producer=appender.producer,
        sequence=appender.next_sequence,
        sites={site.name: to_numpy(piece.sites[site.name], site) for site in spec.sites},
        token_id=piece.token_id,
        document=documents,
        position=piece.position,
        span=piece.span if spec.has_spans else None,
        documents=tuple(described),
    )
