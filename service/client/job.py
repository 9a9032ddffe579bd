"""Handles on jobs, blocking and for asyncio."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, Protocol, TypeVar

from isogloss.service.client import requests
from isogloss.service.transport.plans import Plan
from isogloss.service.values.job_kinds import job_kind
from isogloss.service.values.results import DictionaryInfo, JobInfo, MatchInfo, ProbeInfo

T = TypeVar("T")

Made = DictionaryInfo | ProbeInfo | MatchInfo
"""What a job of any kind makes."""

_FETCHES: dict[str, Callable[[str], Plan[Made]]] = {
    "dictionaries": requests.dictionary,
    "probes": requests.probe,
    "matches": requests.match,
}
"""How what jobs make is got, by its collection."""


def fetch_of(kind: str) -> tuple[str, Callable[[str], Plan[Made]]]:
    """Return the collection of what a kind of job makes, and how it is got."""
    collection = job_kind(kind).collection
    return collection, _FETCHES[collection]


class Runner(Protocol):
    """What a job needs of its client."""

    def run(self, plan: Plan[T]) -> T:
        """Run a plan with blocking calls."""
        ...

    def watch(self, job: str) -> Iterator[JobInfo]:
        """Yield a job's states until it is done."""
        ...


class AsyncRunner(Protocol):
    """What an asynchronous job needs of its client."""

    async def run(self, plan: Plan[T]) -> T:
        """Run a plan with awaited calls."""
        ...

    def watch(self, job: str) -> AsyncIterator[JobInfo]:
        """Yield a job's states until it is done."""
        ...


class Job(Generic[T]):
    """Work that the server does; it goes on when this process ends."""

    def __init__(
        self,
        runner: Runner,
        name: str,
        kind: str,
        collection: str,
        fetch: Callable[[str], Plan[T]],
    ) -> None:
        self._runner = runner
        self._collection = collection
        self._fetch = fetch
        self.name = name
        """Id of the job; ``client.job(name)`` finds it again."""
        self.kind = kind
        """``train``, ``probe`` or ``match``."""

    def __repr__(self) -> str:
        return f"Job({self.name!r}, kind={self.kind!r})"

    def info(self) -> JobInfo:
        """Return the job as it is now."""
        return self._runner.run(requests.job(self.name))

    @property
    def state(self) -> str:
        """QUEUED, STARTING, RUNNING, CANCELLING, SUCCEEDED, FAILED or CANCELLED."""
        return self.info().state

    def progress(self) -> Iterator[JobInfo]:
        """Yield the job now and at each change, until it is done; outlasts server restarts."""
        return self._runner.watch(self.name)

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the job and return what it made.

        Raises:
            JobFailed: it failed; the message says why.
            JobCancelled: it was cancelled.
            DeadlineExceeded: it was not done in time; it goes on.
        """
        return self._runner.run(
            requests.result(self.name, self._fetch, self._collection, timeout_s)
        )

    def cancel(self) -> None:
        """Ask the job to end; it stops within seconds."""
        self._runner.run(requests.cancel(self.name))


class AsyncJob(Generic[T]):
    """The same for asyncio."""

    def __init__(
        self,
        runner: AsyncRunner,
        name: str,
        kind: str,
        collection: str,
        fetch: Callable[[str], Plan[T]],
    ) -> None:
        self._runner = runner
        self._collection = collection
        self._fetch = fetch
        self.name = name
        """Id of the job; ``await client.job(name)`` finds it again."""
        self.kind = kind
        """``train``, ``probe`` or ``match``."""

    def __repr__(self) -> str:
        return f"AsyncJob({self.name!r}, kind={self.kind!r})"

    async def info(self) -> JobInfo:
        """Return the job as it is now."""
        return await self._runner.run(requests.job(self.name))

    def progress(self) -> AsyncIterator[JobInfo]:
        """Yield the job now and at each change, until it is done; outlasts server restarts."""
        return self._runner.watch(self.name)

    async def result(self, timeout_s: float | None = None) -> T:
        """Wait for the job and return what it made; errors as for :meth:`Job.result`."""
        return await self._runner.run(
            requests.result(self.name, self._fetch, self._collection, timeout_s)
        )

    async def cancel(self) -> None:
        """Ask the job to end; it stops within seconds."""
        await self._runner.run(requests.cancel(self.name))
