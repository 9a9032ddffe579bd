"""Threads that answer short calls, shared fairly: no client's many calls hold up another's few."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from isogloss.service.wire.callers import place_of

T = TypeVar("T")
R = TypeVar("R")


class FairThreads:
    """Runs functions in threads, on one event loop.

    Where more wait than there are threads, the next is of the place that has the fewest running
    (see :mod:`isogloss.service.wire.callers`), there of the client that has the fewest, and of
    these the one that waits longest. A quarter of the threads is kept from any one client, and an
    eighth from any one place, so that there is always one for another.
    """

    def __init__(self, threads: int, name: str) -> None:
        """Start no thread yet.

        Args:
            threads: how many there may be.
            name: prefix of their names.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        self._most = max(1, threads - threads // 4)
        self._most_of_place = max(1, threads - threads // 8)
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(self, client: str, work: Callable[[T], R], given: T) -> R:
        """Run a function in a thread, and return its result.

        Args:
            client: for whom.
            work: the function.
            given: its argument.
        """
        await self._turn(client)
        loop = asyncio.get_running_loop()

        def ended(_: object) -> None:  # in the thread, also where the caller has left
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._give_back, client)

        future = self._pool.submit(work, given)
        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    def _give_back(self, client: str) -> None:
        self._free += 1
        self._running[client] -= 1
        if not self._running[client]:
            del self._running[client]
        self._wake()

    def close(self) -> None:
        """Let the threads end with what they do now."""
        self._pool.shutdown(wait=False)

    async def _turn(self, client: str) -> None:
        """Wait until a thread is free for a client, and take it."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given a thread just now
                self._give_back(client)
            else:
                self._drop(client, turn)
            raise

    def _drop(self, client: str, turn: "asyncio.Future[None]") -> None:
        waiting = self._waiting.get(client)
        if waiting is not None and turn in waiting:
            waiting.remove(turn)
            if not waiting:
                del self._waiting[client]

    def _wake(self) -> None:
        """Give the free threads to those whose turn it is."""
        while self._free:
            of_place: Counter[str] = Counter()
            for name, count in self._running.items():
                of_place[place_of(name)] += count
            ready = [
                name
                for name in self._waiting
                if self._running[name] < self._most
                and of_place[place_of(name)] < self._most_of_place
            ]
            if not ready:
                return
            client = min(ready, key=lambda name: (of_place[place_of(name)], self._running[name]))
            waiting = self._waiting.pop(client)
            turn = waiting.popleft()
            if waiting:
                self._waiting[client] = waiting  # behind the others
            if not turn.done():
                self._free -= 1
                self._running[client] += 1
                turn.set_result(None)
