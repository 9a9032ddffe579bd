"""Calls into an event loop from other threads."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from isogloss.service.server.loop_wakes import LoopWakes


def test_many_calls_take_one_signal_and_come_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signals: list[Callable[..., object]] = []
    seen: list[int] = []

    async def go() -> None:
        loop = asyncio.get_running_loop()
        tell = loop.call_soon_threadsafe

        def signal(call: Callable[..., object], *rest: object) -> object:
            signals.append(call)
            return tell(call, *rest)

        wakes = LoopWakes()
        monkeypatch.setattr(loop, "call_soon_threadsafe", signal)

        def ask() -> None:
            for number in range(500):
                wakes.soon(lambda number=number: seen.append(number))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()  # the loop runs nothing meanwhile
        monkeypatch.undo()
        while len(seen) < 500:
            await asyncio.sleep(0)

    asyncio.run(go())
    assert seen == list(range(500))
    assert len(signals) == 1


def test_what_several_threads_ask_while_the_loop_runs_is_all_called() -> None:
    seen: list[int] = []

    async def go() -> None:
        wakes = LoopWakes()

        def ask(first: int) -> None:
            for number in range(first, first + 2000):
                wakes.soon(lambda number=number: seen.append(number))

        await asyncio.gather(*(asyncio.to_thread(ask, 2000 * n) for n in range(4)))
        while len(seen) < 8000:
            await asyncio.sleep(0.001)

    asyncio.run(go())
    assert len(seen) == 8000


def test_a_loop_that_was_closed_is_not_told() -> None:
    async def make() -> LoopWakes:
        return LoopWakes()

    asyncio.run(make()).soon(lambda: pytest.fail("nobody is left to call this"))
