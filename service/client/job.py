"""Handles on jobs, blocking and for asyncio."""

from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

from isogloss.service.client import operations
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.operations import Started
from isogloss.service.values.results import JobInfo

T = TypeVar("T")


class Job(Generic[T]):
    """Work that the server does; it goes on when this process ends."""

    def __init__(self, connection: Connection, started: Started[T]) -> None:
        """Hold on to a job; the client's methods make these."""
        self._connection = connection
        self._started = started
        self.name = started.name
        """Id of the job; ``client.job(name)`` finds it again."""
        self.kind = started.kind
        """``train``, ``probe`` or ``match``."""

    def __repr__(self) -> str:
        return f"Job({self.name!r}, kind={self.kind!r})"

    def info(self) -> JobInfo:
        """Return the job as it is now."""
        return self._connection.run(operations.get_job(self.name))

    @property
    def state(self) -> str:
        """QUEUED, STARTING, RUNNING, CANCELLING, SUCCEEDED, FAILED or CANCELLED."""
        return self.info().state

    def progress(self) -> Iterator[JobInfo]:
        """Yield the job now and at each change, until it is done; outlasts server restarts."""
        return self._connection.iterate(operations.watch(self.name))

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the job and return what it made.

        Args:
            timeout_s: how long to wait; None: until it is done.

        Returns:
            What it made, such as the dictionary that was trained.

        Raises:
            JobFailed: it failed; the message says why.
            JobCancelled: it was cancelled.
            DeadlineExceeded: it was not done in time; it goes on.
        """
        return self._connection.run(operations.result(self._started, timeout_s))

    def cancel(self) -> None:
        """Ask the job to end; it stops within seconds."""
        self._connection.run(operations.cancel(self.name))


class AsyncJob(Generic[T]):
    """The same for asyncio; the state is that of :meth:`info`."""

    def __init__(self, connection: AsyncConnection, started: Started[T]) -> None:
        """Hold on to a job; the client's methods make these."""
        self._connection = connection
        self._started = started
        self.name = started.name
        """Id of the job; ``await client.job(name)`` finds it again."""
        self.kind = started.kind
        """``train``, ``probe`` or ``match``."""

    def __repr__(self) -> str:
        return f"AsyncJob({self.name!r}, kind={self.kind!r})"

    async def info(self) -> JobInfo:
        """Return the job as it is now."""
        return await self._connection.run(operations.get_job(self.name))

    def progress(self) -> AsyncIterator[JobInfo]:
        """Yield the job now and at each change, until it is done; outlasts server restarts."""
        return self._connection.iterate(operations.watch(self.name))

    async def result(self, timeout_s: float | None = None) -> T:
        """Wait for the job and return what it made.

        Args:
            timeout_s: how long to wait; None: until it is done.

        Returns:
            What it made, such as the dictionary that was trained.

        Raises:
            JobFailed: it failed; the message says why.
            JobCancelled: it was cancelled.
            DeadlineExceeded: it was not done in time; it goes on.
        """
        return await self._connection.run(operations.result(self._started, timeout_s))

    async def cancel(self) -> None:
        """Ask the job to end; it stops within seconds."""
        await self._connection.run(operations.cancel(self.name))
