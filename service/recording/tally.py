"""Count what a recorder sees, from the loop's thread and from its own, and log each reason once."""

import logging
import re
import threading
from collections import Counter
from typing import Literal

from isogloss.service.recording.options import RecorderCounts, SampleRate

_log = logging.getLogger(__name__)
_NUMBER = re.compile(r"\d+")
_MAX_REASONS = 64
"""More reasons than these are counted as one: messages of a model's own may differ each time."""

Counted = Literal[
    "passes", "rows", "durable", "known", "sampled_out", "without_text", "lost", "changed_weights"
]


class Tally:
    """The counts of a recorder. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._overflows: Counter[str] = Counter()
        self._rates: list[SampleRate] = []

    def add(self, what: Counted, number: int = 1) -> None:
        """Add to one of the counts."""
        with self._lock:
            self._counts[what] += number

    def leave_out(self, error: Exception) -> None:
        """Count a pass that is not recorded; the first of its reason is logged."""
        message = f"{error}" or type(error).__name__
        reason = _NUMBER.sub("N", message)
        with self._lock:
            if reason not in self._left_out and len(self._left_out) >= _MAX_REASONS:
                reason = "other reasons"
            self._left_out[reason] += 1
            is_first = self._left_out[reason] == 1
            self._examples.setdefault(reason, message)
        if is_first:
            _log.warning("a pass is not recorded, the loop goes on: %s", error)

    def overflow(self, site: str, numbers: int, dtype: str) -> None:
        """Count numbers that became infinite; the first of a site is logged."""
        with self._lock:
            is_first = site not in self._overflows
            self._overflows[site] += numbers
        if is_first:
            _log.warning(
                "site %r: %d numbers are finite in the model and infinite as %s; record it with "
                "dtype='bfloat16' or 'float32'",
                site,
                numbers,
                dtype,
            )

    def change_weights(self, step: int) -> None:
        """Count a pass whose weights are not those that its training step began with."""
        with self._lock:
            self._counts["changed_weights"] += 1
            is_first = self._counts["changed_weights"] == 1
        if is_first:
            _log.warning(
                "the weights of the model changed between passes of training step %d: rows of "
                "different weights are stored as if they were of one model; give the step, such "
                "as client.record(..., step=0) and recorder.step = n after each update",
                step,
            )

    def rate(self, rate: SampleRate) -> None:
        """Note that another share of the documents is kept from now on."""
        with self._lock:
            self._rates.append(rate)

    def counts(self) -> RecorderCounts:
        """Return the counts as they are now."""
        with self._lock:
            return RecorderCounts(
                passes=self._counts["passes"],
                rows=self._counts["rows"],
                durable_rows=self._counts["durable"],
                left_out=dict(self._left_out),
                examples=dict(self._examples),
                known_documents=self._counts["known"],
                sampled_out=self._counts["sampled_out"],
                rates=tuple(self._rates),
                overflows=dict(self._overflows),
                without_text=self._counts["without_text"],
                lost_rows=self._counts["lost"],
                changed_weights=self._counts["changed_weights"],
            )
