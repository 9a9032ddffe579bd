"""Threads that clients share."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from isogloss.service.server.fair_threads import FairThreads


def trying(test: Callable[[FairThreads], Awaitable[None]]) -> None:
    async def go() -> None:
        threads = FairThreads(4, "test")
        try:
            await test(threads)
        finally:
            threads.close()

    asyncio.run(go())


def test_one_clients_many_slow_calls_leave_a_thread_for_another() -> None:
    goes_on, done = threading.Event(), list[int]()

    def slow(number: int) -> None:
        goes_on.wait(60)
        done.append(number)

    async def test(threads: FairThreads) -> None:
        held = [asyncio.create_task(threads.run("greedy", slow, n)) for n in range(50)]
        await asyncio.sleep(0)
        assert await threads.run("other", lambda given: given + 1, 6) == 7
        assert not any(task.done() for task in held)
        goes_on.set()
        await asyncio.gather(*held)
        assert sorted(done) == list(range(50))

    trying(test)


def test_what_waits_is_taken_by_turns() -> None:
    goes_on, order = threading.Event(), list[str]()

    async def test(threads: FairThreads) -> None:
        holders = [
            asyncio.create_task(threads.run(name, goes_on.wait, 60))
            for name in ("x", "x", "y", "z")
        ]
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(threads.run("a", order.append, f"a{n}")) for n in range(30)]
        await asyncio.sleep(0)
        waiting += [asyncio.create_task(threads.run("b", order.append, "b0"))]
        await asyncio.sleep(0)
        goes_on.set()
        await asyncio.gather(*holders, *waiting)

    trying(test)
    assert order.index("b0") < 8, order


def test_a_call_that_was_left_gives_its_thread_back_when_its_work_ended() -> None:
    goes_on, began = threading.Event(), threading.Semaphore(0)

    def slow(_: int) -> None:
        began.release()
        goes_on.wait(60)

    async def test(threads: FairThreads) -> None:
        held = [asyncio.create_task(threads.run(name, slow, 0)) for name in "abcd"]
        for _ in held:
            assert await asyncio.to_thread(began.acquire, timeout=60)
        waiting = [asyncio.create_task(threads.run("e", slow, 0)) for _ in range(1000)]
        await asyncio.sleep(0)
        for task in (*held, *waiting):
            task.cancel()
        late = asyncio.create_task(threads.run("f", lambda given: given, 3))
        await asyncio.sleep(0.05)
        assert not late.done(), "the threads still work for the calls that were left"
        goes_on.set()
        assert await late == 3
        for task in (*held, *waiting):
            with pytest.raises(asyncio.CancelledError):
                await task
        for name in "gggggg":
            assert await threads.run(name, lambda given: given, 1) == 1

    trying(test)


class _Seen(dict[str, int]):
    """Counts how often it is asked for a client."""

    asked = 0

    def get(self, *args: object) -> int:  # type: ignore[override]
        type(self).asked += 1
        return super().get(*args)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("places", [1, 1000])
def test_who_is_next_costs_as_much_where_a_thousand_wait(places: int) -> None:
    names = [f"ipv4:10.0.0.{number % places} {number}" for number in range(1000)]

    async def test(threads: FairThreads) -> None:
        turns = threads._turns
        turns._running, turns._at_place = _Seen(), _Seen()
        _Seen.asked = 0
        found = await asyncio.gather(*(threads.run(name, str.upper, name) for name in names))
        assert found == [name.upper() for name in names]
        assert turns._running == turns._at_place == turns._waiting == {}

    trying(test)
    assert _Seen.asked < 30 * len(names), "about as often as there are threads, for each call"


def test_places_take_turns_however_many_clients_they_have() -> None:
    goes_on, order = threading.Event(), list[str]()

    async def test(threads: FairThreads) -> None:
        held = [asyncio.create_task(threads.run(f"x{n}", goes_on.wait, 60)) for n in range(4)]
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(threads.run(f"a {n}", order.append, "a")) for n in range(40)]
        waiting += [
            asyncio.create_task(threads.run(f"{place} 0", order.append, place)) for place in "bc"
        ]
        await asyncio.sleep(0)
        goes_on.set()
        await asyncio.gather(*held, *waiting)

    trying(test)
    assert order.index("b") < 9, order
    assert order.index("c") < 9, order


def test_an_error_of_the_work_is_raised_and_the_thread_goes_on() -> None:
    def fail(_: int) -> None:
        raise ValueError("no")

    async def test(threads: FairThreads) -> None:
        for _ in range(9):
            with pytest.raises(ValueError, match="no"):
                await threads.run("a", fail, 0)

    trying(test)
