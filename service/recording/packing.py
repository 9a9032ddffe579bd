"""Cut the rows of passes into batches: by bytes over all sites, and whole documents where it can.

A document that is larger than a batch is cut; every other one is in one batch, so that after a
crash it is there whole or not at all.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import ResourceExhausted
from isogloss.store import Document, RecordingSpec, RowBatch

BATCH_BYTES = 16 << 20
"""Bytes at which a batch ends, unless its first document is larger."""
_HEAD_BYTES = 4096
_DOCUMENT_BYTES = 128
"""Of a batch's header, and of a document in it: more than their encodings take."""
_UNNUMBERED = "-"
"""Producer of a batch that its stream has not numbered yet."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredRows:
    """The rows of some documents, as they are stored."""

    sites: Mapping[str, NDArray[np.generic]]
    """``[rows, width]`` of each site, in its dtype."""
    token_id: NDArray[np.uint32]
    """``[rows]``."""
    document: NDArray[np.uint64]
    """``[rows]``, the rows of a document behind one another."""
    position: NDArray[np.uint32]
    """``[rows]``."""
    span: NDArray[np.uint32] | None
    """``[rows, 2]``; None in a recording without spans."""
    documents: tuple[Document, ...]
    """The document of each sequence that has rows, in the order of the rows. Two sequences of one
    pass may be one document.
    """
    ends: NDArray[np.int64]
    """For each of these the number of the row behind its last."""
    step: int
    """Training step."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.token_id)


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    rows: StoredRows
    start: int
    stop: int


class Packer:
    """Collects rows until they make a batch."""

    def __init__(self, spec: RecordingSpec, batch_rows: int, largest: int) -> None:
        """Begin without rows.

        Args:
            spec: specification of the recording.
            batch_rows: least rows of one batch, unless its bytes end it.
            largest: bytes of the largest batch that the stream takes.

        Raises:
            ResourceExhausted: one row is larger than that.
        """
        self._spec = spec
        self._row_bytes = spec.row_bytes + (24 if spec.has_spans else 16)
        self._head_bytes = _HEAD_BYTES + sum(2 * len(s.name) + 64 for s in spec.sites)
        self._batch_rows = batch_rows
        self._largest = largest
        if self._row_bytes + self._head_bytes + _DOCUMENT_BYTES > largest:
            raise ResourceExhausted(
                f"a row of recording {spec.recording!r} has {spec.row_bytes} bytes over its "
                f"{len(spec.sites)} sites, the store takes batches of {largest}: record fewer "
                "sites, or into several recordings"
            )
        self._target = min(BATCH_BYTES, largest)
        self._slices: list[_Slice] = []
        self._rows = 0
        self._bytes = self._head_bytes
        self._step = 0

    @property
    def rows(self) -> int:
        """Rows that wait for more."""
        return self._rows

    def add(self, stored: StoredRows) -> Iterator[RowBatch]:
        """Add rows, and yield the batches that are full; see :meth:`rest` for their numbers.

        Args:
            stored: the rows; their arrays must not change.
        """
        if stored.step != self._step:
            yield from self.rest()
            self._step = stored.step
        start = 0
        for document, end in zip(stored.documents, stored.ends.tolist(), strict=True):
            head = _DOCUMENT_BYTES + 4 * len(document.group) + len((document.text or "").encode())
            while start < end:
                stop = end if self._fits(end - start, head) else self._room_from(start, head)
                if stop > start:
                    self._take(stored, start, stop, head)
                    start = stop
                is_full = self._rows >= self._batch_rows or self._bytes >= self._target
                if is_full or start < end:
                    yield from self.rest()

    def rest(self) -> Iterator[RowBatch]:
        """Yield what waits as a batch, with sequence number 1; nothing where no row waits."""
        if not self._slices:
            return
        slices, self._slices = self._slices, []
        self._rows, self._bytes = 0, self._head_bytes
        documents = {
            d.id: d for cut in slices for d in _documents_in(cut.rows, cut.start, cut.stop)
        }
        yield RowBatch(
            producer=_UNNUMBERED,
            sequence=1,
            sites={
                site.name: _joined([c.rows.sites[site.name][c.start : c.stop] for c in slices])
                for site in self._spec.sites
            },
            token_id=_joined([cut.rows.token_id[cut.start : cut.stop] for cut in slices]),
            document=_joined([cut.rows.document[cut.start : cut.stop] for cut in slices]),
            position=_joined([cut.rows.position[cut.start : cut.stop] for cut in slices]),
            span=_joined([s for cut in slices if (s := _span(cut)) is not None])
            if self._spec.has_spans
            else None,
            documents=tuple(documents.values()),
            step=self._step,
        )

    def _fits(self, rows: int, head: int) -> bool:
        size = rows * self._row_bytes + head
        limit = self._target if self._slices else self._largest
        return self._bytes + size <= limit

    def _room_from(self, start: int, head: int) -> int:
        """Return the row before which a batch ends that begins with row ``start``."""
        if self._slices:
            return start
        room = self._target - self._bytes - head
        if room < self._row_bytes:
            room = self._largest - self._bytes - head
        if room < self._row_bytes:
            raise ResourceExhausted(
                f"a document's text has {head} bytes, the store takes batches of {self._largest}: "
                "cut the text into passages"
            )
        return start + room // self._row_bytes

    def _take(self, stored: StoredRows, start: int, stop: int, head: int) -> None:
        last = self._slices[-1] if self._slices else None
        if last is not None and last.rows is stored and last.stop == start:
            self._slices[-1] = _Slice(stored, last.start, stop)
        else:
            self._slices.append(_Slice(stored, start, stop))
        self._rows += stop - start
        self._bytes += (stop - start) * self._row_bytes + head


def _documents_in(stored: StoredRows, start: int, stop: int) -> list[Document]:
    first = int(np.searchsorted(stored.ends, start, side="right"))
    last = int(np.searchsorted(stored.ends, stop, side="left"))
    return list(stored.documents[first : last + 1])


def _span(cut: _Slice) -> NDArray[np.uint32] | None:
    return None if cut.rows.span is None else cut.rows.span[cut.start : cut.stop]


def _joined(parts: list[NDArray[np.generic]]) -> NDArray[np.generic]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
