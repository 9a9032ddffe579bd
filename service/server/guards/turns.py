"""Turns for refused calls to end, so that refusing them never fills a processor."""

import asyncio
from collections import deque

_TICK_S = 0.01


class Turns:
    """Turns in which calls end, on one event loop: a few each 10 ms.

    A caller hears at once, unless many call. Those that wait hold their headers and what grpc took
    in behind them. Groups of callers have turns one after the other, so that the calls of one
    group hold up no other's.

    Without turns, 1,200 callers that called again whenever they were refused kept the loop busy for
    300 ms on end, and a batch of another client took as long to become durable
    (docs/design/043).
    """

    def __init__(self, waiting: int, turns: int) -> None:
        """Let calls end at once, until there are many.

        Args:
            waiting: how many may wait for a turn; those beyond have theirs at once.
            turns: how many end each 10 ms.
        """
        self._most = waiting
        self._turns = self._left = turns
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._count = 0

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return self._count

    async def turn(self, group: str) -> None:
        """Return when a call may end.

        Args:
            group: whose it is, such as the place where it comes from.
        """
        if self._count >= self._most:
            return
        if self._left and not self._count:
            self._left -= 1
            self._tick_later()
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(group, deque()).append(turn)
        self._count += 1
        try:
            await turn
        finally:
            if turn.cancelled():  # the caller has left
                self._drop(group, turn)

    def end(self) -> None:
        """Give all who wait, and all who come, their turn at once: the server ends."""
        self._most = 0
        while self._count:
            self._give()
        if self._timer is not None:
            self._timer.cancel()

    def _tick_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        is_idle = self._left == self._turns
        self._left = self._turns
        while self._left and self._count:
            self._give()
            self._left -= 1
        if not is_idle or self._left < self._turns:
            self._tick_later()

    def _give(self) -> None:
        """Give one call its turn: the oldest of the group that had its last turn longest ago."""
        group = next(iter(self._waiting))
        turns = self._waiting.pop(group)
        turn = turns.popleft()
        if turns:
            self._waiting[group] = turns  # behind the others
        self._count -= 1
        if not turn.done():  # else the caller has just left
            turn.set_result(None)

    def _drop(self, group: str, turn: "asyncio.Future[None]") -> None:
        turns = self._waiting.get(group, deque())
        if turn not in turns:  # its turn came while it left
            return
        turns.remove(turn)
        self._count -= 1
        if not turns:
            del self._waiting[group]
