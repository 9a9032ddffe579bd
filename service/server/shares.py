"""Places that clients share: for calls that are long, of which a server has only so many."""

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from typing import TypeVar

from isogloss.errors import ResourceExhausted, ServerUnavailable
from isogloss.service.wire.callers import place_of, who_makes_room

T = TypeVar("T")


class CallPlace:
    """One place that a call has, until it leaves or has to make room."""

    def __init__(self, client: str) -> None:
        self.client = client
        """Whose it is."""
        loop = asyncio.get_running_loop()
        self.moved_s = loop.time()
        """When the call last got on, by the clock of the event loop."""
        self._lost: asyncio.Future[ServerUnavailable] = loop.create_future()

    def lose(self, reason: ServerUnavailable) -> None:
        """Tell the call to end."""
        if not self._lost.done():
            self._lost.set_result(reason)

    async def within(self, step: Awaitable[T], timeout_s: float, slow: str) -> T:
        """Wait for one step of the call.

        Args:
            step: cancelled where it does not end in time.
            timeout_s: for how many seconds it may take.
            slow: what to say where it takes longer.

        Returns:
            What the step returned.

        Raises:
            ServerUnavailable: the call has to make room for another.
            ResourceExhausted: the step took too long.
        """
        task = asyncio.ensure_future(step)
        task.add_done_callback(_look_at)  # this may be cancelled, after which nobody else does
        try:
            await asyncio.wait(
                (task, self._lost), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if task.done():
                self.moved_s = asyncio.get_running_loop().time()
                return task.result()
            if self._lost.done():
                raise self._lost.result()
            raise ResourceExhausted(slow)
        finally:
            if not task.done():
                task.cancel()


def _look_at(ended: "asyncio.Future[T]") -> None:
    """Take note of how a step ended that nobody waits for: else the log says that nobody did."""
    if not ended.cancelled():
        ended.exception()


class Shares:
    """The places of one kind of call, on one event loop.

    While there is room any client has a place. When there is none, a client that has less than its
    share gets one from the client that has the most: that of the call which got on longest ago.
    """

    def __init__(self, total: int, what: str) -> None:
        """Offer places.

        Args:
            total: how many there are.
            what: plural of what takes them, for messages, such as ``streams``.
        """
        self.total = total
        """How many places there are."""
        self._what = what
        self._taken: list[CallPlace] = []

    @contextmanager
    def place(self, client: str) -> Generator[CallPlace]:
        """Return a context manager that has a place within its block.

        Args:
            client: from where the call comes.

        Yields:
            The place.

        Raises:
            ResourceExhausted: all are taken, and the client has its share.
        """
        if len(self._taken) >= self.total:
            self._make_room(client)
        place = CallPlace(client)
        self._taken.append(place)
        try:
            yield place
        finally:
            if place in self._taken:
                self._taken.remove(place)

    @property
    def taken(self) -> int:
        """How many places are taken now."""
        return len(self._taken)

    def is_free(self) -> bool:
        """Whether a place is free now."""
        return len(self._taken) < self.total

    def _make_room(self, client: str) -> None:
        loser = who_makes_room((place.client for place in self._taken), client, self.total)
        if loser is None:
            where = place_of(client)
            here = sum(place_of(place.client) == where for place in self._taken)
            raise ResourceExhausted(
                f"{len(self._taken)} {self._what} are open, which is the limit, {here} of them "
                f"from {where or 'here'}: close some, then retry"
            )
        theirs = [place for place in self._taken if place.client == loser]
        lost = min(theirs, key=lambda place: place.moved_s)
        self._taken.remove(lost)
        lost.lose(
            ServerUnavailable(
                f"made room for another client, as {self.total} {self._what} are open: call again"
            )
        )
