"""Calls into an event loop from other threads, many with one signal."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable


class LoopWakes:
    """Runs functions on one event loop; safe to ask from any thread.

    ``call_soon_threadsafe`` writes to a socket each time. A commit that concerns 512 streams asks
    for 512 calls at once, which had taken longer than the commit; here they cost one such write.
    """

    def __init__(self) -> None:
        """Bind to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._due: deque[Callable[[], None]] = deque()
        self._is_asked = False

    def soon(self, call: Callable[[], None]) -> None:
        """Have a function called on the loop, in the order asked; nothing where it was closed."""
        self._due.append(call)
        if not self._is_asked:  # two threads at once may both ask, which does no harm
            self._is_asked = True
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._is_asked = False  # first: what is asked for from now on asks again
        for _ in range(len(self._due)):
            self._due.popleft()()
