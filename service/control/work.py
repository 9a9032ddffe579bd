"""Work that takes as long as reading or rewriting a recording: a thread, followed as steps."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from isogloss.service.values.upkeep import UpkeepProgress

T_co = TypeVar("T_co", covariant=True)
ReportProgress = Callable[[str, int, int], None]
"""Called by the work between two steps: what it is at, bytes done, bytes in all. Raises when the
work is to end."""

_BEAT_S = 0.5
"""How often a caller that follows the work is told where it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkStep(Generic[T_co]):
    """One step of some work: how far it is, or its result."""

    progress: UpkeepProgress
    """How far the work is."""
    result: T_co | None = None
    """Result of the work; None but in the last step."""


class _Stopped(Exception):
    """Raised in work whose caller left."""


class Work(Generic[T_co]):
    """Runs one piece of work in a thread, and yields its steps."""

    def __init__(self, work: Callable[[ReportProgress], T_co], on_end: Callable[[], None]) -> None:
        """Remember the work; :meth:`start` begins it.

        Args:
            work: given a function to report with; what it returns is the last step's result.
            on_end: called in the thread when the work is over, however it ended.
        """
        self._changed = threading.Condition()
        self._progress = UpkeepProgress(step="", done=0, total=0)
        self._stop: Exception | None = None
        self._result: tuple[T_co] | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._thread = threading.Thread(
            target=self._run, args=(work, on_end), name="isogloss-upkeep", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the work is over."""
        return self._ended

    def _run(self, work: Callable[[ReportProgress], T_co], on_end: Callable[[], None]) -> None:
        try:
            self._result = (work(self._report),)
        except BaseException as error:  # raised again in the caller's thread, whatever it is
            self._error = error
        on_end()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _report(self, step: str, done: int, total: int) -> None:
        if self._stop is not None:
            raise self._stop
        self._progress = UpkeepProgress(step=step, done=done, total=total)

    def steps(self) -> Iterator[WorkStep[T_co]]:
        """Yield where the work is, at least once a second, and last its result.

        A caller that closes the iterator early makes the work end before its next step.

        Raises:
            Exception: whatever the work raised.
        """
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended, _BEAT_S)
                    ended = self._ended
                if not ended:
                    yield WorkStep(progress=self._progress)
                    continue
                if self._error is not None:
                    raise self._error
                if self._result is not None:
                    yield WorkStep(progress=self._progress, result=self._result[0])
                return
        finally:
            self.stop(_Stopped())

    def stop(self, reason: Exception) -> None:
        """Make the work end before its next step, by raising ``reason`` in it."""
        self._stop = self._stop or reason

    def join(self) -> None:
        """Wait until the work ended."""
        self._thread.join()
