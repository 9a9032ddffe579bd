"""Sample batches and comparisons that the contracts of lane writers and readers share."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.store.schema.batch import RowBatch, TokenColumns
from isogloss.store.schema.recording_spec import Dtype, RecordingSpec, Rows, SiteSpec
from isogloss.store.testing.protocols import GrowingRecording, PinnedReader
from isogloss.store.testing.samples import sample_batch, sample_spec


class RecordingContract:
    """A contract of something that is reached through a recording."""

    def make(
        self, directory: Path, spec: RecordingSpec
    ) -> AbstractContextManager[GrowingRecording]:
        """Return a context manager that opens the recording of ``spec`` in ``directory``.

        A subclass that tests an implementation overrides this. On entering, the context manager
        creates the recording if the directory holds none, and gives it to the test. On leaving, it
        closes everything it opened. A test enters it again with the same directory, as after a
        restart, and expects all rows that the first recording acknowledged.

        Args:
            directory: where the recording lies, or is to be created.
            spec: the recording's specification.

        Returns:
            The context manager, not yet entered.

        Raises:
            TypeError: the subclass did not override this.
        """
        raise TypeError(f"{type(self).__name__} must override make()")


def contract_spec(dtype: Dtype, *, has_spans: bool = True) -> RecordingSpec:
    """Return a recording of two sites of one dtype, whose rows have odd lengths."""
    sites = (
        SiteSpec(name="layer.1/out", width=13, dtype=dtype),
        SiteSpec(name="layer.2", width=5, dtype=dtype),
    )
    return sample_spec(sites=sites, has_spans=has_spans)


def numbered(spec: RecordingSpec, producer: str, first: int, count: int) -> list[RowBatch]:
    """Return the batches that a producer sends under sequence numbers from ``first`` on."""
    return [sample_batch(spec, producer, first + ahead) for ahead in range(count)]


def any_bits(spec: RecordingSpec, producer: str, sequence: int, rows: int = 24) -> RowBatch:
    """Return a batch of random bit patterns: NaN, infinities and subnormals among them."""
    random = np.random.default_rng(sequence)
    sites = {
        site.name: random.integers(0, 256, (rows, site.row_bytes), np.uint8).view(site.numpy_dtype)
        for site in spec.sites
    }
    return replace(sample_batch(spec, producer, sequence, rows), sites=sites)


def site_rows(batches: Sequence[RowBatch], site: SiteSpec) -> Rows:
    """Return the rows of a site over batches."""
    parts = [batch.sites[site.name] for batch in batches]
    return np.concatenate(parts) if parts else np.empty((0, site.width), site.numpy_dtype)


def holds(reader: PinnedReader, spec: RecordingSpec, batches: Sequence[RowBatch]) -> None:
    """Raise an error for a reader that holds anything but these batches, in this order."""
    wanted = TokenColumns.concatenate([batch.columns for batch in batches], spec.has_spans)
    require(reader.rows == wanted.rows, f"reader has {reader.rows} rows, wanted {wanted.rows}")
    same_columns(reader.tokens(), wanted)
    for site in spec.sites:
        same(
            f"site {site.name!r}", reader.read(site.name, 0, reader.rows), site_rows(batches, site)
        )
    documents = {document.id: document for batch in batches for document in batch.documents}
    require(reader.documents() == documents, "documents differ from those that were sent")


def same_columns(found: TokenColumns, wanted: TokenColumns) -> None:
    """Raise an error for columns that differ in a bit."""
    same("token_id", found.token_id, wanted.token_id)
    same("document", found.document, wanted.document)
    same("position", found.position, wanted.position)
    require((found.span is None) == (wanted.span is None), "spans appeared or vanished")
    if found.span is not None and wanted.span is not None:
        same("span", found.span, wanted.span)
    same("step", found.step, wanted.step)


def same(name: str, found: NDArray[np.generic], wanted: NDArray[np.generic]) -> None:
    """Raise an error for an array that differs in dtype, shape or a bit; NaN equals itself."""
    require(
        (found.dtype, found.shape) == (wanted.dtype, wanted.shape),
        f"{name} is {found.dtype} {found.shape}, wanted {wanted.dtype} {wanted.shape}",
    )
    require(found.tobytes() == wanted.tobytes(), f"{name} differs from what was written")


def in_threads(calls: Sequence[Callable[[], None]]) -> None:
    """Run calls side by side; raise what the first of them raised."""
    failures: list[Exception] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def require(condition: bool, message: str) -> None:
    """Fail a test."""
    if not condition:
        raise AssertionError(message)
