"""Recordings whose every byte follows from producer and sequence number, and their check."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np

from isogloss.errors import CorruptData
from isogloss.store.reading.reader import RecordingReader
from isogloss.store.schema.batch import RowBatch
from isogloss.store.schema.document import Document
from isogloss.store.schema.recording_spec import ModelInfo, RecordingSpec, Rows, SiteSpec

MAX_ROWS = 40


def sample_spec(
    recording: str = "sample",
    *,
    sites: tuple[SiteSpec, ...] = (
        SiteSpec(name="layer.1/out", width=12),
        SiteSpec(name="layer.2", width=6, dtype="float32"),
    ),
    has_spans: bool = True,
) -> RecordingSpec:
    """Return a specification for sample batches; by default of two sites."""
    return RecordingSpec(
        recording=recording,
        model=ModelInfo(name="sample-model", revision="1"),
        tokenizer="sample-tokenizer",
        corpus="sample-corpus",
        sites=sites,
        has_spans=has_spans,
    )


@lru_cache(maxsize=512)
def _batch(
    sites: tuple[SiteSpec, ...], has_spans: bool, name: str, rows: int, step: int
) -> RowBatch:
    producer, sequence = name.rsplit(" ", 1)
    seed = hashlib.sha256(name.encode()).digest()
    random = np.random.default_rng(list(seed[:8]))
    text = f"{name} {rows} {step}" if step else f"{name} {rows}"
    document = Document.from_text(text, group=producer)
    return RowBatch(
        producer=producer,
        sequence=int(sequence),
        sites={site.name: _activations(random, rows, site) for site in sites},
        token_id=random.integers(0, 1000, rows).astype(np.uint32),
        document=np.full(rows, document.id, np.uint64),
        position=np.arange(rows, dtype=np.uint32),
        span=np.arange(2 * rows, dtype=np.uint32).reshape(rows, 2) if has_spans else None,
        documents=(document,),
        step=step,
    )


def sample_batch(
    spec: RecordingSpec, producer: str, sequence: int, rows: int | None = None, step: int = 0
) -> RowBatch:
    """Return the batch that a producer sends under a sequence number: always the same.

    Its arrays are shared: do not change them.

    Args:
        spec: the recording.
        producer: name without spaces.
        sequence: from 1.
        rows: how many; by default 1 to 40, from producer and sequence.
        step: the training step of the rows.

    Returns:
        The batch.
    """
    if rows is None:
        rows = 1 + hashlib.sha256(f"{producer} {sequence}".encode()).digest()[8] % MAX_ROWS
    batch = _batch(spec.sites, spec.has_spans, f"{producer} {sequence}", rows, step)
    return replace(batch, sites=dict(batch.sites))


def _activations(random: np.random.Generator, rows: int, site: SiteSpec) -> Rows:
    return random.standard_normal((rows, site.width), np.float32).astype(site.numpy_dtype)


def check_sample(reader: RecordingReader, acknowledged: Mapping[str, int]) -> dict[str, int]:
    """Check that a recording of sample batches holds each exactly once, in order, unchanged.

    Args:
        reader: of all its rows.
        acknowledged: per producer the last sequence number that was acknowledged.

    Returns:
        Per producer the last sequence number found.

    Raises:
        CorruptData: a row is lost, repeated, out of order or changed.
    """
    columns = reader.tokens()
    documents = reader.documents()
    found: dict[str, int] = {}
    row = 0
    while row < reader.rows:
        document = documents.get(int(columns.document[row]))
        if document is None or document.text is None:
            raise CorruptData(f"row {row} is of a document that is not described")
        producer, sequence, rows, *steps = document.text.split(" ")
        wanted = found.get(producer, 0) + 1
        if int(sequence) != wanted:
            raise CorruptData(f"row {row} is of {producer} batch {sequence}, wanted {wanted}")
        step = int(steps[0]) if steps else 0
        batch = sample_batch(reader.spec, producer, wanted, int(rows), step)
        if batch.documents[0] != document:
            raise CorruptData(f"the document of {producer} batch {wanted} changed")
        _check_batch(reader, batch, row)
        found[producer] = wanted
        row += batch.rows
    for producer, sequence in acknowledged.items():
        if found.get(producer, 0) < sequence:
            raise CorruptData(
                f"{producer} batch {sequence} was acknowledged, found {found.get(producer, 0)}"
            )
    return found


def _check_batch(reader: RecordingReader, batch: RowBatch, row: int) -> None:
    stop = row + batch.rows
    if stop > reader.rows:
        raise CorruptData(f"{batch.producer} batch {batch.sequence} is cut after {reader.rows}")
    columns, wanted = reader.tokens(row, stop), batch.columns
    pairs = [
        ("token_id", columns.token_id, wanted.token_id),
        ("document", columns.document, wanted.document),
        ("position", columns.position, wanted.position),
        ("step", columns.step, wanted.step),
        *((name, reader.read(name, row, stop), values) for name, values in batch.sites.items()),
    ]
    if columns.span is not None and wanted.span is not None:
        pairs.append(("span", columns.span, wanted.span))
    for name, there, here in pairs:
        if there.tobytes() != here.tobytes():
            raise CorruptData(f"{name!r} of {batch.producer} batch {batch.sequence} changed")
