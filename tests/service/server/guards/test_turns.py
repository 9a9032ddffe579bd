"""Turns come a few at a time, in the order of groups, and to everybody in the end."""

import asyncio
from collections.abc import Coroutine

from isogloss.service.server.guards.turns import Turns

AT_ONCE = 4
TICK_S = 0.01
MANY = 40
HERE, THERE = "ipv4:10.0.0.1", "ipv4:10.0.0.2"


async def _started(*calls: Coroutine[object, object, None]) -> list["asyncio.Task[None]"]:
    """Begin to wait, in this order."""
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    return tasks


def test_a_few_calls_have_their_turn_at_once() -> None:
    async def go() -> None:
        turns = Turns(MANY, AT_ONCE)
        tasks = await _started(*(turns.turn(HERE) for _ in range(AT_ONCE)))
        assert all(task.done() for task in tasks)
        assert turns.waiting == 0

    asyncio.run(go())


def test_many_calls_have_turns_one_after_another_and_none_is_left() -> None:
    async def go() -> None:
        loop, turns, ended = asyncio.get_running_loop(), Turns(MANY, AT_ONCE), list[int]()

        async def call(number: int) -> None:
            await turns.turn(HERE)
            ended.append(number)

        began = loop.time()
        tasks = await _started(*map(call, range(MANY)))
        assert turns.waiting == MANY - AT_ONCE
        await asyncio.gather(*tasks)
        ticks = (MANY - AT_ONCE) / AT_ONCE
        assert loop.time() - began > (ticks - 1) * TICK_S
        assert ended == list(range(MANY))
        assert turns.waiting == 0

    asyncio.run(go())


def test_turns_are_there_again_once_it_is_quiet() -> None:
    async def go() -> None:
        turns = Turns(MANY, AT_ONCE)
        await asyncio.gather(*(turns.turn(HERE) for _ in range(MANY)))
        while turns._timer is not None:
            await asyncio.sleep(TICK_S)
        tasks = await _started(*(turns.turn(HERE) for _ in range(AT_ONCE)))
        assert all(task.done() for task in tasks)

    asyncio.run(go())


def test_the_calls_of_one_group_hold_up_no_other_group() -> None:
    async def go() -> None:
        turns, ended = Turns(MANY, AT_ONCE), list[str]()

        async def call(group: str) -> None:
            await turns.turn(group)
            ended.append(group)

        tasks = await _started(*map(call, [*[HERE] * MANY, THERE]))
        await asyncio.gather(*tasks)
        assert ended.index(THERE) <= AT_ONCE + 1  # those at once, and one more from here

    asyncio.run(go())


def test_beyond_those_that_may_wait_calls_have_their_turn_at_once() -> None:
    async def go() -> None:
        turns = Turns(1, AT_ONCE)
        tasks = await _started(*(turns.turn(HERE) for _ in range(AT_ONCE + 1)))
        assert [task.done() for task in tasks] == [True] * AT_ONCE + [False]
        (beyond,) = await _started(turns.turn(HERE))
        assert beyond.done()
        await tasks[-1]

    asyncio.run(go())


def test_who_leaves_takes_no_turn() -> None:
    async def go() -> None:
        turns = Turns(MANY, AT_ONCE)
        *_, leaves, stays = await _started(*(turns.turn(HERE) for _ in range(AT_ONCE + 2)))
        other, last = await _started(turns.turn(THERE), turns.turn(THERE))
        assert turns.waiting == 4
        for task in (leaves, other):
            task.cancel()
        await asyncio.gather(leaves, other, return_exceptions=True)
        assert turns.waiting == 2
        last.cancel()
        turns._give()  # the oldest of the first group
        turns._give()  # just as the last one leaves
        await asyncio.gather(stays, last, return_exceptions=True)
        assert not stays.cancelled()
        assert last.cancelled()
        assert turns.waiting == 0
        assert turns._waiting == {}

    asyncio.run(go())


def test_at_the_end_nobody_waits() -> None:
    async def go() -> None:
        turns = Turns(MANY, AT_ONCE)
        tasks = await _started(*(turns.turn(HERE) for _ in range(MANY)))
        turns.end()
        more = await _started(*(turns.turn(HERE) for _ in range(MANY)))
        assert turns.waiting == 0
        assert all(task.done() for task in (*tasks, *more))

    asyncio.run(go())
