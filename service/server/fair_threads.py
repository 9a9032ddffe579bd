"""Threads that answer short calls, shared fairly: no client's many calls hold up another's few."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from isogloss.service.wire.callers import place_of

T = TypeVar("T")
R = TypeVar("R")


class FairTurns:
    """Turns that are shared fairly, on one event loop.

    Where more wait than there are turns, the next is of the place that has the fewest (see
    :mod:`isogloss.service.wire.callers`), there of the client that has the fewest, and of these the
    one that waits longest. A quarter of the turns is kept from any one client, and an eighth from
    any one place, so that there is always one for another.
    """

    def __init__(self, turns: int) -> None:
        """Let so many go on at a time."""
        self._free = turns
        self._most = max(1, turns - turns // 4)
        self._most_of_place = max(1, turns - turns // 8)
        self._running: dict[str, int] = {}  # by client
        self._at_place: dict[str, int] = {}  # the same by place
        self._waiting: dict[str, dict[str, deque[asyncio.Future[None]]]] = {}  # by place, client

    async def take(self, client: str) -> None:
        """Wait for a client's turn, and take it."""
        turn = asyncio.get_running_loop().create_future()
        at_place = self._waiting.setdefault(place_of(client), {})
        at_place.setdefault(client, deque()).append(turn)
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given just now
                self.give_back(client)
            else:
                self._drop(client, turn)
            raise

    def give_back(self, client: str) -> None:
        """Let another have a client's turn."""
        self._free += 1
        _count(self._running, client, -1)
        _count(self._at_place, place_of(client), -1)
        self._wake()

    def _drop(self, client: str, turn: "asyncio.Future[None]") -> None:
        place = place_of(client)
        clients = self._waiting.get(place, {})
        waiting = clients.get(client)
        if waiting is not None and turn in waiting:
            waiting.remove(turn)
            if not waiting:
                del clients[client]
            if not clients:
                del self._waiting[place]

    def _wake(self) -> None:
        """Give the free threads to those whose turn it is."""
        while self._free:
            place = _fewest(
                (place for place, clients in self._waiting.items() if self._has_ready(clients)),
                self._at_place,
                self._most_of_place,
            )
            client = place and _fewest(self._waiting[place], self._running, self._most)
            if not place or not client:
                return
            turn = self._waiting[place][client].popleft()
            self._put_behind(place, client)
            if not turn.done():
                self._free -= 1
                _count(self._running, client, 1)
                _count(self._at_place, place, 1)
                turn.set_result(None)

    def _has_ready(self, clients: Iterable[str]) -> bool:
        return any(self._running.get(client, 0) < self._most for client in clients)

    def _put_behind(self, place: str, client: str) -> None:
        """Put a client behind the others of its place, and the place behind the other places."""
        clients = self._waiting.pop(place)
        if waiting := clients.pop(client):
            clients[client] = waiting
        if clients:
            self._waiting[place] = clients


class FairThreads:
    """Runs functions in threads, on one event loop; who is next is said by :class:`FairTurns`."""

    def __init__(self, threads: int, name: str) -> None:
        """Start no thread yet.

        Args:
            threads: how many there may be.
            name: prefix of their names.
        """
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._turns = FairTurns(threads)

    async def run(self, client: str, work: Callable[[T], R], given: T) -> R:
        """Run a function in a thread, and return its result.

        Args:
            client: for whom.
            work: the function.
            given: its argument.
        """
        await self._turns.take(client)
        loop = asyncio.get_running_loop()

        def ended(_: object) -> None:  # in the thread, also where the caller has left
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(self._turns.give_back, client)

        future = self._pool.submit(work, given)
        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the threads end with what they do now."""
        self._pool.shutdown(wait=False)


def _fewest(names: Iterable[str], running: Mapping[str, int], most: int) -> str | None:
    """Return the first of the names that has the fewest running; None where none is below most.

    Few have any, since threads are few: so this ends soon, however many wait.
    """
    found, fewest = None, most
    for name in names:
        count = running.get(name, 0)
        if not count:
            return name
        if count < fewest:
            found, fewest = name, count
    return found


def _count(running: dict[str, int], name: str, more: int) -> None:
    """Count up or down; who has none running is not held."""
    running[name] = running.get(name, 0) + more
    if not running[name]:
        del running[name]
