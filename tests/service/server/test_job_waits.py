"""Waits for changes of jobs: woken by a change alone, and many for one look at the queue."""

import asyncio
import threading
from collections.abc import Collection

import pytest

from isogloss.errors import StorageError
from isogloss.service.server.job_waits import JobWaits


class Queue:
    """Versions of jobs, and how often they were looked at."""

    def __init__(self) -> None:
        self.versions = {"a": 1, "b": 1}
        self.looks: list[set[str]] = []
        self.error: Exception | None = None

    def look(self, jobs: Collection[str]) -> dict[str, int]:
        assert threading.current_thread() is not threading.main_thread()
        self.looks.append(set(jobs))
        if self.error is not None:
            raise self.error
        return {job: self.versions[job] for job in jobs if job in self.versions}


def test_a_change_wakes_those_who_wait_for_that_job_and_no_others() -> None:
    queue = Queue()

    async def go() -> None:
        waits = JobWaits(queue.look)
        of_a = [asyncio.create_task(waits.changed("a", 1)) for _ in range(500)]
        of_b = asyncio.create_task(waits.changed("b", 1))
        while len(queue.looks) < 2:
            await asyncio.sleep(0.01)
        assert not any(task.done() for task in (*of_a, of_b))
        queue.versions["a"] = 2
        await asyncio.gather(*of_a)
        assert not of_b.done()
        await waits.changed("b", 0)
        looks = len(queue.looks)
        del queue.versions["b"]
        await of_b
        assert len(queue.looks) > looks
        waits.close()

    asyncio.run(go())
    assert queue.looks[0] == {"a", "b"}, "one look was for all"
    assert len(queue.looks) < 100


def test_a_wait_ends_with_its_time_and_nobody_looks_any_more() -> None:
    queue = Queue()

    async def go() -> None:
        waits = JobWaits(queue.look)
        await waits.changed("a", 1, 0.05)
        cancelled = asyncio.create_task(waits.changed("a", 1))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await asyncio.sleep(0.3)
        looks = len(queue.looks)
        await asyncio.sleep(0.3)
        assert len(queue.looks) == looks
        await waits.changed("a", 0)
        waits.close()

    asyncio.run(go())


def test_a_queue_that_cannot_be_read_tells_all_who_wait() -> None:
    queue = Queue()
    queue.error = StorageError("gone")

    async def go() -> None:
        waits = JobWaits(queue.look)
        found = await asyncio.gather(
            waits.changed("a", 1), waits.changed("b", 1), return_exceptions=True
        )
        assert [type(error) for error in found] == [StorageError, StorageError]
        queue.error = None
        await waits.changed("a", 0)
        waits.close()

    asyncio.run(go())


def test_who_begins_to_wait_during_a_look_is_not_woken_by_it() -> None:
    queue = Queue()
    is_looking, may_end = threading.Event(), threading.Event()
    look = queue.look

    def slow(jobs: Collection[str]) -> dict[str, int]:
        is_looking.set()
        assert may_end.wait(60)
        return look(jobs)

    async def go() -> None:
        waits = JobWaits(slow)
        of_a = asyncio.create_task(waits.changed("a", 1))
        await asyncio.to_thread(is_looking.wait)
        of_b = asyncio.create_task(waits.changed("b", 1))
        await asyncio.sleep(0)
        may_end.set()
        while len(queue.looks) < 2:
            await asyncio.sleep(0.01)
        assert queue.looks[0] == {"a"}
        assert not of_b.done()
        queue.versions = {"a": 2, "b": 2}
        await asyncio.gather(of_a, of_b)
        waits.close()

    asyncio.run(go())
