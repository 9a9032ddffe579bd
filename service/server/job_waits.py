"""Waits for changes of jobs that hold no thread: one look at the queue is for all who wait."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

_LOOK_S = 0.1
"""How often the queue is looked at while anybody waits."""


class JobWaits:
    """All calls of a server that wait for jobs. For one event loop."""

    def __init__(self, versions: Callable[[Collection[str]], Mapping[str, int]]) -> None:
        """Wait for jobs of a queue.

        Args:
            versions: returns the version of each of the given jobs that there is. Called in a
                thread of its own, one call at a time.
        """
        self._versions = versions
        self._waiting: dict[str, list[tuple[int, asyncio.Future[None]]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="isogloss-job-waits")

    async def changed(self, job: str, version: int, timeout_s: float | None = None) -> None:
        """Return once a job has another version than a given one, or is gone, or time is up.

        Args:
            job: id of the job.
            version: the version that the caller has seen.
            timeout_s: how many seconds to wait at most; None: without limit.

        Raises:
            IsoglossError: the queue cannot be read, or was closed.
        """
        future = asyncio.get_running_loop().create_future()
        entry = (version, future)
        self._waiting.setdefault(job, []).append(entry)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return
        finally:
            waiting = self._waiting[job]
            waiting.remove(entry)
            if not waiting:
                del self._waiting[job]

    def close(self) -> None:
        """Let the thread end with what it does now."""
        self._thread.shutdown(wait=False)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            asked = {job: tuple(waiting) for job, waiting in self._waiting.items()}
            try:
                found = await loop.run_in_executor(self._thread, self._versions, [*asked])
            except Exception as error:  # whoever waits is told
                for _, future in (entry for waiting in asked.values() for entry in waiting):
                    if not future.done():
                        future.set_exception(error)
            else:  # who began to wait meanwhile was not asked about
                for job, waiting in asked.items():
                    for version, future in waiting:
                        if found.get(job) != version and not future.done():
                            future.set_result(None)
            await asyncio.sleep(_LOOK_S)
