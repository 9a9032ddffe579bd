"""Passes that wait to be sent, in bounded memory; waits that say what for, and that end."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import DeadlineExceeded
from isogloss.service.recording.options import RecorderOptions, SampleRate
from isogloss.service.recording.sampling import sample_position
from isogloss.service.recording.tally import Tally
from isogloss.service.recording.tensors import HostRows
from isogloss.service.recording.texts import NamedDocument

_log = logging.getLogger(__name__)

SAY_AFTER_S = 5.0
"""A wait that takes longer says what it waits for, once."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class QueuedPass:
    """The rows of one forward pass, as its hooks copied them."""

    sites: Mapping[str, HostRows]
    """Rows of each site, not yet in the recording's dtype."""
    token_id: NDArray[np.uint32]
    """``[rows]``."""
    position: NDArray[np.uint32]
    """``[rows]``."""
    document_index: NDArray[np.int64]
    """For each row the index of its document, ``[rows]``, ascending."""
    documents: tuple[NDArray[np.int64], ...]
    """Token ids of each document."""
    texts: tuple[str, ...] | None
    """Text of each document, where the loop gave it; with the groups in ``groups``."""
    groups: tuple[str, ...] | None
    """Source of each text."""
    named: tuple[NamedDocument, ...] | None
    """Each document with its spans; None: the recorder's thread names them."""
    step: int
    """Training step."""
    rate: SampleRate
    """The share of documents that was kept when the pass came."""
    mode: Mapping[str, str] = field(default_factory=dict[str, str])
    """``mode`` and ``dropout`` of the pass."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.token_id)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return sum(rows.size for rows in self.sites.values()) + 16 * self.rows

    def content(self) -> list[NDArray[np.uint32]]:
        """Return for each document the ids of its tokens that have rows."""
        starts = np.searchsorted(self.document_index, np.arange(1, len(self.documents)))
        return np.split(self.token_id, starts)

    def below(self, rate: SampleRate, tally: Tally) -> "QueuedPass | None":
        """Return the documents of the pass that a share keeps, and count the others.

        Args:
            rate: the share; the pass carries it from now on.
            tally: counts the documents and rows that are left out.

        Returns:
            The pass without the other documents; None where none is left.
        """
        named = self.named or ()
        keep = np.array([sample_position(n.document.id) < rate.share for n in named], np.bool_)
        if len(keep) and not keep.all():
            tally.add("sampled_out", int((~keep).sum()))
        return self._only(keep, rate)

    def _only(self, keep: NDArray[np.bool_], rate: SampleRate) -> "QueuedPass | None":
        if not keep.any():
            return None
        where = np.flatnonzero(keep[self.document_index])
        is_whole = len(where) == self.rows
        chosen = np.flatnonzero(keep).tolist()
        index = np.cumsum(keep)[self.document_index[where]] - 1
        return QueuedPass(
            sites=self.sites
            if is_whole
            else {name: rows.only(where) for name, rows in self.sites.items()},
            token_id=self.token_id[where],
            position=self.position[where],
            document_index=index.astype(np.int64),
            documents=tuple(self.documents[i] for i in chosen),
            texts=None if self.texts is None else tuple(self.texts[i] for i in chosen),
            groups=None if self.groups is None else tuple(self.groups[i] for i in chosen),
            named=None if self.named is None else tuple(self.named[i] for i in chosen),
            step=self.step,
            rate=rate,
            mode=self.mode,
        )


class PassQueue:
    """A queue between the loop and the recorder's thread. Thread-safe.

    Rows that the recorder's thread took out are no longer counted: that thread holds one batch that
    is not full, and what it takes while it fills it.
    """

    def __init__(self, options: RecorderOptions, tally: Tally) -> None:
        self._options = options
        self._tally = tally
        self._changed = threading.Condition()
        self._passes: deque[QueuedPass] = deque()
        self._taken: QueuedPass | None = None
        self._bytes = 0
        self._is_stalled = False
        self._is_closing = False
        self._flushes_asked = self._flushes_done = 0
        self._stopped: Exception | None = None
        self._rate = SampleRate(share=options.sample)
        tally.rate(self._rate)

    @property
    def rate(self) -> SampleRate:
        """The share of the documents that is kept now."""
        return self._rate

    def put(self, queued: QueuedPass) -> None:
        """Queue a pass. Waits for room, or makes some, as the options say.

        Args:
            queued: the pass; with the names of its documents, where a share of them is kept.

        Raises:
            DeadlineExceeded: there was no room in time.
            IsoglossError: recording stopped earlier; the error that stopped it.
        """
        with self._changed:
            if self._stopped is not None:
                raise self._stopped
            if self._options.on_full == "drop":
                self._put_sampled(queued)
                return
            if self._is_full(queued.size):
                self._wait_for_room(queued.size)
            if self._stopped is not None:
                raise self._stopped
            self._append(queued)

    def flush(self) -> None:
        """Wait until the recorder's thread has made durable what was put before.

        Raises:
            DeadlineExceeded: it took longer than the options allow.
            IsoglossError: recording stopped; the error that stopped it.
        """
        with self._changed:
            self._flushes_asked += 1
            wanted, wait_s = self._flushes_asked, self._options.wait_s
            self._changed.notify_all()
            is_met = wait_for(
                self._changed,
                lambda: self._stopped is not None or self._flushes_done >= wanted,
                "all rows to be durable",
                wait_s,
            )
            if self._stopped is not None:
                raise self._stopped
            if not is_met:
                raise DeadlineExceeded(
                    f"waited {wait_s:g} s until all rows are durable: see that the store takes rows"
                )

    def flush_asked(self) -> int:
        """Return the number of the flush that is due, once no pass is left; 0: none is."""
        with self._changed:
            is_due = not self._passes and self._flushes_asked > self._flushes_done
            return self._flushes_asked if is_due else 0

    def flushed(self, number: int) -> None:
        """Say that everything up to a flush is durable."""
        with self._changed:
            self._flushes_done = number
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for a pass, a flush or the end of passes; return False where it took too long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: (
                    bool(self._passes)
                    or self._is_closing
                    or self._flushes_asked > self._flushes_done
                ),
                seconds,
            )

    def take(self) -> QueuedPass | None:
        """Wait for a pass and take it out; None once the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._passes or self._is_closing)
            if not self._passes:
                return None
            taken = self._passes.popleft()
            self._taken = replace(taken, sites={})  # names only: rows are the taker's
            self._bytes -= taken.size
            self._is_stalled = False
            self._changed.notify_all()
            return taken

    def waiting(self) -> list[QueuedPass]:
        """Return the passes that are there, after the one taken last if it is not done yet."""
        with self._changed:
            return [*([] if self._taken is None else [self._taken]), *self._passes]

    def done(self) -> None:
        """Say that the pass taken last is sent, or left out."""
        with self._changed:
            self._taken = None

    def drain(self) -> list[QueuedPass]:
        """Take out all passes that are there, without a wait."""
        with self._changed:
            taken = list(self._passes)
            self._passes.clear()
            self._bytes = 0
            self._changed.notify_all()
            return taken

    def stop(self, error: Exception) -> None:
        """Refuse passes from now on; those that are queued stay."""
        with self._changed:
            self._stopped = self._stopped or error
            self._changed.notify_all()

    def close(self) -> None:
        """Say that no pass follows."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def wait_closed(self) -> None:
        """Wait until no pass follows."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing)

    def _is_full(self, size: int) -> bool:
        return bool(self._bytes) and self._bytes + size > self._options.queue_bytes

    def _append(self, queued: QueuedPass) -> None:
        self._passes.append(queued)
        self._bytes += queued.size
        self._tally.add("rows", queued.rows)
        self._changed.notify_all()

    def _wait_for_room(self, size: int) -> None:
        waited = f"room in the recorder's queue, which holds {self._bytes >> 20} MiB"
        remedy = (
            "see that the store takes rows, or record less: fewer sites, RecorderOptions(sample=), "
            "(every=) or a larger queue_bytes"
        )
        if self._is_stalled:  # a loop that waited in vain once does not wait again for the same
            raise DeadlineExceeded(f"no {waited}: the store takes no rows; {remedy}")
        is_met = wait_for(
            self._changed,
            lambda: self._stopped is not None or not self._is_full(size),
            waited,
            self._options.wait_s,
        )
        if not is_met:
            self._is_stalled = True
            raise DeadlineExceeded(
                f"waited {self._options.wait_s:g} s for {waited}: the store takes no rows; {remedy}"
            )

    def _put_sampled(self, queued: QueuedPass) -> None:
        is_thinned = queued.rate == self._rate
        kept = queued if is_thinned else queued.below(self._rate, self._tally)
        while kept is not None and self._is_full(kept.size):
            self._halve(kept)
            kept = kept.below(self._rate, self._tally)
        if kept is not None:
            self._append(kept)

    def _halve(self, newest: QueuedPass) -> None:
        """Halve the share, and leave out of the queue what it does not keep."""
        first = next((p for p in self._passes if p.named), newest)
        name = first.named[0].document.id if first.named else 0
        self._rate = SampleRate(share=self._rate.share / 2, first_document=name)
        self._tally.rate(self._rate)
        _log.warning(
            "the recorder's queue is full: from document %016x on a share of %g is kept",
            name,
            self._rate.share,
        )
        left = [queued.below(self._rate, self._tally) for queued in self._passes]
        before = sum(queued.rows for queued in self._passes)
        self._passes = deque(queued for queued in left if queued is not None)
        self._bytes = sum(queued.size for queued in self._passes)
        self._tally.add("rows", sum(queued.rows for queued in self._passes) - before)


def wait_for(
    changed: threading.Condition, is_met: Callable[[], bool], what: str, wait_s: float
) -> bool:
    """Wait until something holds; after 5 s say once what the wait is for.

    Args:
        changed: the condition, held; notified when it may hold.
        is_met: whether it holds.
        what: what the wait is for.
        wait_s: for how many seconds to wait.

    Returns:
        Whether it holds.
    """
    end = time.monotonic() + wait_s
    if changed.wait_for(is_met, min(SAY_AFTER_S, wait_s)):
        return True
    if time.monotonic() < end:
        _log.warning("waiting for %s, for at most %g s", what, wait_s)
    return changed.wait_for(is_met, max(0.0, end - time.monotonic()))
