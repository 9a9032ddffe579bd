"""Places that clients share."""

import asyncio
import gc

import pytest

from isogloss.errors import ResourceExhausted, ServerUnavailable
from isogloss.service.server.shares import CallPlace, Shares


async def hold(shares: Shares, client: str, begun: list[CallPlace]) -> None:
    with shares.place(client) as place:
        begun.append(place)
        await place.within(asyncio.sleep(1e6), 2e6, "slow")


async def holding(
    shares: Shares, *clients: str
) -> tuple[list[CallPlace], list["asyncio.Task[None]"]]:
    begun: list[CallPlace] = []
    tasks = [asyncio.create_task(hold(shares, client, begun)) for client in clients]
    while len(begun) < len(clients):
        await asyncio.sleep(0)
    return begun, tasks


def test_a_client_without_its_share_gets_a_place_of_the_one_that_has_most() -> None:
    async def go() -> None:
        shares = Shares(6, "streams")
        begun, tasks = await holding(shares, "a", "a", "a", "a", "b", "b")
        begun[1].moved_s -= 100  # the one that got on longest ago
        begun[4].moved_s -= 200  # of a client that has fewer
        with shares.place("c") as mine:
            assert (mine.client, shares.is_free()) == ("c", False)
            with pytest.raises(ServerUnavailable, match="made room for another client"):
                await tasks[1]
            assert [task.done() for task in tasks] == [False, True, False, False, False, False]
            with shares.place("c"):  # its share of six among three
                with pytest.raises(ResourceExhausted, match=r"6 streams .* 2 of them from c"):
                    shares.place("c").__enter__()
                with pytest.raises(ResourceExhausted, match="2 of them from b"):
                    shares.place("b").__enter__()
        assert shares.is_free()
        for task in tasks:
            task.cancel()

    asyncio.run(go())


def test_a_client_alone_has_all_places_and_no_more() -> None:
    async def go() -> None:
        shares = Shares(2, "streams")
        with shares.place("a"), shares.place("a"), pytest.raises(ResourceExhausted, match="from a"):
            shares.place("a").__enter__()
        with shares.place("a"):
            assert shares.is_free()

    asyncio.run(go())


def test_a_step_that_takes_too_long_is_cancelled_and_named() -> None:
    async def go() -> None:
        shares = Shares(1, "streams")
        cancelled = asyncio.Event()

        async def stuck() -> None:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        with shares.place("a") as place:
            assert await place.within(asyncio.sleep(0, 7), 60, "slow") == 7
            with pytest.raises(ResourceExhausted, match="took no message"):
                await place.within(stuck(), 0.01, "it took no message")
        await cancelled.wait()

    asyncio.run(go())


def test_an_error_of_a_step_that_nobody_waits_for_is_looked_at() -> None:
    complaints: list[dict[str, object]] = []

    async def step() -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            raise OSError("the client has left") from None

    async def go() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        with pytest.raises(ResourceExhausted, match="slow"):
            await CallPlace("a").within(step(), 0.01, "slow")
        await asyncio.sleep(0.01)
        gc.collect()

    asyncio.run(go())
    assert complaints == []
