"""Run a model over documents and append its rows, going on where an earlier run ended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np

from isogloss import models
from isogloss.errors import InvalidInput
from isogloss.service.recording.appender import BatchStream
from isogloss.service.recording.description import (
    HasRecordings,
    Precision,
    begun_with,
    check_place,
    check_recording,
    check_sites,
    describe,
)
from isogloss.service.recording.options import check_sample
from isogloss.service.recording.packing import BATCH_BYTES, Packer, StoredRows
from isogloss.service.recording.route import Direct
from isogloss.service.recording.sampling import sample_position
from isogloss.service.recording.tally import Tally
from isogloss.service.values.arguments import (
    check_function,
    check_one_of,
    check_text,
    check_whole,
    found,
)
from isogloss.service.values.results import RecordingInfo
from isogloss.store import Document, RecordingSpec, check_step

if TYPE_CHECKING:
    import torch


class RecordingClient(HasRecordings, Protocol):
    """The methods of a client that recording documents uses."""

    def create_recording(self, spec: RecordingSpec, vocabulary: Sequence[str]) -> RecordingInfo:
        """Create a recording. Where an equal one exists already, return that one."""
        ...

    def known_documents(self, recording: str, step: int = 0) -> Mapping[int, int]:
        """Return how many rows of each document were recorded at a step, by id."""
        ...

    def stream(
        self,
        recording: str,
        producer: str,
        *,
        direct: Direct = False,
        root: Path | str | None = None,
    ) -> BatchStream:
        """Open a producer's stream of batches, directly to the storage or through the owner."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentOptions:
    """How documents are recorded."""

    corpus: str = "documents"
    """Name of the text, as the recording shows it."""
    producer: str = "documents"
    """Name of the stream of batches. Two runs at the same time need two names."""
    dtype: Precision = "bfloat16"
    """Number format in which activations are stored."""
    batch_rows: int = 8192
    """Rows of one batch; fewer where a batch would be larger than 16 MiB."""
    max_tokens: int = 512
    """Longest input of the model, special tokens counted; the rest of a document is cut off."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the model's matrix products; bfloat16 is twice as fast on a CPU with AVX512-BF16."""
    direct: Direct = False
    """True: write to the store's disk directly, or raise an error; ``auto``: where it is seen."""
    root: Path | str | None = None
    """For ``direct``: path of the store's root on this machine; None: the owner's path of it."""
    skip_first: int = 0
    """How many content tokens at the start of each document have no row: first tokens of models
    without a begin token have rows of huge norm.
    """
    step: int = 0
    """Training step of the model's weights; 0 outside training. A document is recorded once at each
    step."""
    sample: float = 1.0
    """Share of the documents that is recorded, in ``(0, 1]``; a hash of a document's id decides, so
    that two models keep the same documents, and so does a loop of one's own.
    """
    call: int | None = None
    """Which call to read of a site that is called several times in one pass, such as 0 or -1."""
    layout: Literal["batch_first"] | None = None
    """That outputs are ``[batch, tokens, width]``; None: their sizes tell."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", check_step(self.step))
        check_place(self.dtype, self.direct, self.root)
        check_text("corpus", self.corpus, "wikipedia")
        check_text("producer", self.producer, "documents")
        check_one_of("precision", self.precision, ("float32", "bfloat16"))
        check_one_of("layout", self.layout, ("batch_first", None))
        for name, least in (("batch_rows", 1), ("max_tokens", 1), ("skip_first", 0)):
            check_whole(name, getattr(self, name), least)
        if self.call is not None:
            check_whole("call", self.call, None)
        check_sample(self.sample)

    @property
    def provenance(self) -> dict[str, str]:
        """The settings on which rows depend: always two, others where they are not as usual."""
        return {
            "precision": self.precision,
            "max_tokens": str(self.max_tokens),
            **({"skip_first": str(self.skip_first)} if self.skip_first else {}),
            **({"sample": f"{self.sample!r}"} if self.sample < 1 else {}),
            **({"call": str(self.call)} if self.call is not None else {}),
            **({"layout": self.layout} if self.layout else {}),
        }


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
    """Record each document once; leave out those that the recording holds already at this step.

    All rows of a document are in one batch, so a document is there whole or not at all. After a run
    that broke off, here or at the server, the same call records the missing documents in the same
    order.
    """
    # torch takes a second to import, and only a run that records needs it
    from isogloss.service.recording.tensors import DTYPES

    _check(model, documents, recording, options, on_progress, on_route)
    check_sites(sites)
    named = [_document(document) for document in documents]
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
        provenance={**options.provenance, **_begins(model, documents)},
    )
    spec = begun_with(client, spec, options.step)
    client.create_recording(spec, vocabulary)
    with client.stream(
        recording, options.producer, direct=options.direct, root=options.root
    ) as appender:
        if on_route is not None:
            on_route(appender.route)
        # asked once the stream is open: what an earlier run sent is on disk by now, or lost
        done = set(client.known_documents(recording, options.step))
        dtype = DTYPES[options.dtype]
        _append(appender, model, documents, named, spec, options, dtype, done, on_progress)
    return client.recording(recording)


def _begins(
    model: "models.LoadedModel",
    documents: "Sequence[models.TextDocument] | Sequence[Sequence[int]]",
) -> dict[str, str]:
    """Return which token ids stand before each text; nothing where documents are token ids."""
    ids = models.begin_ids(model.tokenizer)
    if ids is None or not documents or not isinstance(documents[0], models.TextDocument):
        return {}
    return {"begins": " ".join(map(str, ids))}


def _check(
    model: object,
    documents: object,
    recording: object,
    options: object,
    on_progress: object,
    on_route: object,
) -> None:
    """Refuse arguments that cannot be recorded, before anything is made or run."""
    if not isinstance(model, models.LoadedModel):
        raise InvalidInput(
            f"model is a {type(model).__name__}, wanted a LoadedModel: give "
            "isogloss.models.load_model(...), or LoadedModel(module=model, tokenizer=tokenizer, "
            "name='my-model') around a torch module; without a tokenizer documents are token ids"
        )
    if not isinstance(options, DocumentOptions):
        raise InvalidInput(f"options is {found(options)}, wanted DocumentOptions(...) or None")
    check_recording(recording)  # the options checked themselves
    check_function("on_progress", on_progress)
    check_function("on_route", on_route)
    if isinstance(documents, str | bytes) or not hasattr(documents, "__len__"):
        raise InvalidInput(
            f"documents is {found(documents)}, wanted a list: [TextDocument(text=...), ...], or of "
            "token ids, [[101, 2023], ...]"
        )
    for number, document in enumerate(cast("Sequence[object]", documents)):
        if isinstance(document, str | bytes):
            raise InvalidInput(
                f"document {number} is {found(document)}, wanted a TextDocument: give "
                "[TextDocument(text=text) for text in texts], from isogloss.models"
            )
        if isinstance(document, models.TextDocument) and model.tokenizer is None:
            raise InvalidInput(
                f"document {number} is a text and the model has no tokenizer: give lists of token "
                "ids, or a tokenizer"
            )


def _append(
    appender: BatchStream,
    model: "models.LoadedModel",
    documents: "Sequence[models.TextDocument] | Sequence[Sequence[int]]",
    known: Sequence[Document],
    spec: RecordingSpec,
    options: DocumentOptions,
    dtype: "torch.dtype",
    done: set[int],
    on_progress: "Callable[[models.RecordProgress], None] | None",
) -> None:
    todo = [
        place
        for place in _first_of_each([document.id for document in known], done)
        if sample_position(known[place].id) < options.sample
    ]
    left = [documents[i] for i in todo]
    skipped = len(documents) - len(left)

    tally = Tally()

    def report(progress: "models.RecordProgress") -> None:
        for site, numbers in progress.overflows.items():
            if numbers:
                tally.overflow(site, numbers, options.dtype)
        if on_progress is not None:
            on_progress(
                replace(
                    progress,
                    documents=progress.documents + skipped,
                    total_documents=len(documents),
                )
            )

    pieces = models.record(
        model,
        left,  # pyright: ignore[reportArgumentType] - as uniform as ``documents`` is
        [site.name for site in spec.sites],
        batch_rows=max(1, min(options.batch_rows, BATCH_BYTES // spec.row_bytes)),
        max_tokens=options.max_tokens,
        dtype=dtype,
        precision=options.precision,
        on_progress=report,
        call=options.call,
        layout=options.layout,
    )
    packer = Packer(spec, options.batch_rows, appender.batch_bytes)
    for piece in pieces:
        named = {i: known[todo[i]] for i in np.unique(piece.document_index).tolist()}
        stored = _stored(spec, piece, named, options)
        if stored is not None:
            for batch in [*packer.add(stored), *packer.rest()]:
                number = appender.next_sequence
                appender.write(replace(batch, producer=appender.producer, sequence=number))


def _document(document: "models.TextDocument | Sequence[int]") -> Document:
    if isinstance(document, models.TextDocument):
        return Document.from_text(document.text, document.group)
    return Document.from_token_ids(document)


def _first_of_each(ids: Sequence[int], done: set[int]) -> list[int]:
    """Return for each id that is not in ``done`` the first place where it stands, in order."""
    seen = set(done)
    first: list[int] = []
    for i, document in enumerate(ids):
        if document not in seen:
            seen.add(document)
            first.append(i)
    return first


def _stored(
    spec: RecordingSpec,
    piece: "models.CapturedRows",
    named: Mapping[int, Document],
    options: DocumentOptions,
) -> StoredRows | None:
    """Return the rows of a piece without the first of each document; None where none is left."""
    # torch takes a second to import, and only a run that records needs it
    from isogloss.service.recording.tensors import to_numpy

    index = piece.document_index
    rank = np.arange(piece.rows) - np.searchsorted(index, index)
    where = np.flatnonzero(rank >= options.skip_first)
    if not len(where):
        return None
    is_whole = len(where) == piece.rows
    which, counts = np.unique(index[where], return_counts=True)
    documents = tuple(named[i] for i in which.tolist())
    ids = np.array([document.id for document in documents], np.uint64)
    sites = {site.name: to_numpy(piece.sites[site.name], site) for site in spec.sites}
    return StoredRows(
        sites=sites if is_whole else {name: rows[where] for name, rows in sites.items()},
        token_id=piece.token_id[where],
        document=np.repeat(ids, counts),
        position=piece.position[where],
        span=piece.span[where] if spec.has_spans and piece.span is not None else None,
        documents=documents,
        ends=np.cumsum(counts),
        step=options.step,
    )
