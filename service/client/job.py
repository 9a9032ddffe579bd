"""Handles on jobs, blocking and for asyncio."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Generic, TypeVar

from isogloss.errors import IsoglossError
from isogloss.service.client import operations
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.operations import Started
from isogloss.service.values.html import card
from isogloss.service.values.results import JobInfo

T = TypeVar("T")


class Job(Generic[T]):
    """A job of the server, such as a training. It goes on when this process ends."""

    def __init__(self, connection: Connection, started: Started[T]) -> None:
        """Make a handle on a job; the client's methods do so."""
        self._connection = connection
        self._started = started
        self.name = started.name
        """Id of the job; ``client.job(name)`` finds it again."""
        self.kind = started.kind
        """Name of the kind of job, such as ``train``."""

    def __repr__(self) -> str:
        return f"Job({self.name!r}, kind={self.kind!r})"

    def _repr_html_(self) -> str:
        return self.info()._repr_html_()

    def _ipython_display_(self) -> None:
        """Show the job in a notebook, and go on showing its progress below the cell."""
        display = import_module("IPython.display")  # a notebook calls this, which has it
        shown = display.display(display.HTML(self._repr_html_()), display_id=True)
        if shown is None:  # nothing is there to show it
            return

        def show(text: str) -> None:
            shown.update(display.HTML(text))

        name = f"isogloss-follow-{self.name}"
        threading.Thread(target=self.follow, args=(show,), name=name, daemon=True).start()

    def follow(self, show: Callable[[str], None]) -> None:
        """Call ``show`` with the job as HTML now and after each change, until it has ended.

        Args:
            show: shows it, in the place of what was shown before.
        """
        try:
            for info in self.progress():
                show(info._repr_html_())
        except IsoglossError as error:  # the client was closed, or the server is gone
            show(card(f"Job {self.name} ({self.kind})", {"not followed any more": str(error)}))

    def info(self) -> JobInfo:
        """Ask how the job is now: state, progress and, where it failed, why."""
        return self._connection.run(operations.get_job(self.name))

    @property
    def state(self) -> str:
        """The state now: QUEUED, STARTING, RUNNING, CANCELLING, SUCCEEDED, FAILED or CANCELLED."""
        return self.info().state

    def progress(self) -> Iterator[JobInfo]:
        """Yield how the job is now, and again after each change, until the job has ended.

        If the server restarts meanwhile, this waits for it and goes on.
        """
        return self._connection.iterate(operations.watch(self.name))

    def result(self, timeout_s: float | None = None) -> T:
        """Wait until the job has ended, and return what it made.

        Args:
            timeout_s: how many seconds to wait; None: without limit.

        Returns:
            What the job made, such as the dictionary that it trained.

        Raises:
            JobFailed: the job failed; the message says why.
            JobCancelled: the job was cancelled.
            DeadlineExceeded: the job had not ended after ``timeout_s``; it goes on.
        """
        return self._connection.run(operations.result(self._started, timeout_s))

    def cancel(self) -> None:
        """Ask the job to stop, and return at once; it stops within seconds."""
        self._connection.run(operations.cancel(self.name))


class AsyncJob(Generic[T]):
    """A job of the server, for asyncio. It goes on when this process ends.

    Its state is in the result of :meth:`info`.
    """

    def __init__(self, connection: AsyncConnection, started: Started[T]) -> None:
        """Make a handle on a job; the client's methods do so."""
        self._connection = connection
        self._started = started
        self.name = started.name
        """Id of the job; ``await client.job(name)`` finds it again."""
        self.kind = started.kind
        """Name of the kind of job, such as ``train``."""

    def __repr__(self) -> str:
        return f"AsyncJob({self.name!r}, kind={self.kind!r})"

    async def info(self) -> JobInfo:
        """Ask how the job is now: state, progress and, where it failed, why."""
        return await self._connection.run(operations.get_job(self.name))

    def progress(self) -> AsyncIterator[JobInfo]:
        """Yield how the job is now, and again after each change, until the job has ended.

        If the server restarts meanwhile, this waits for it and goes on.
        """
        return self._connection.iterate(operations.watch(self.name))

    async def result(self, timeout_s: float | None = None) -> T:
        """Wait until the job has ended, and return what it made.

        Args:
            timeout_s: how many seconds to wait; None: without limit.

        Returns:
            What the job made, such as the dictionary that it trained.

        Raises:
            JobFailed: the job failed; the message says why.
            JobCancelled: the job was cancelled.
            DeadlineExceeded: the job had not ended after ``timeout_s``; it goes on.
        """
        return await self._connection.run(operations.result(self._started, timeout_s))

    async def cancel(self) -> None:
        """Ask the job to stop, and return at once; it stops within seconds."""
        await self._connection.run(operations.cancel(self.name))
