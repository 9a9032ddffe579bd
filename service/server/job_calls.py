"""The calls that wait for jobs, answered without a thread each."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from google.longrunning import operations_pb2 as operations
from google.protobuf.message import Message

from isogloss.errors import Conflict, ResourceExhausted
from isogloss.proto.v1 import jobs_pb2
from isogloss.service.calls.jobs import wait_s
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.server.fair_threads import FairThreads
from isogloss.service.server.job_waits import JobWaits
from isogloss.service.server.shares import CallPlace, Shares
from isogloss.service.values.jobs import JobRecord
from isogloss.service.wire.framing import parse
from isogloss.service.wire.jobs import to_job, to_operation
from isogloss.service.wire.methods import method_of
from isogloss.service.wire.names import from_name

WAIT = method_of(operations.WaitOperationRequest, operations.Operation)
WATCH = method_of(jobs_pb2.WatchJobRequest, operations.Operation)

MAX_WATCHES = 512
"""Calls at a time that wait for jobs."""
WATCH_S = 3600.0
"""A watch ends after so many seconds, in good order; who watches on begins it again."""
_NO_PLACE_S = 0.3
"""A wait without a place is answered after so many seconds, done or not."""


class JobCalls:
    """Answers WaitOperation and WatchJob of a server. For one event loop."""

    def __init__(self, jobs: Jobs, threads: FairThreads) -> None:
        """Answer from a queue of jobs, reading it in the given threads."""
        self._jobs = jobs
        self._threads = threads
        self._waits = JobWaits(jobs.versions)
        self._places = Shares(MAX_WATCHES, "calls that wait for jobs")

    def close(self) -> None:
        """End what waits."""
        self._waits.close()

    async def wait(self, raw: bytes, client: str) -> Message:
        """Return a job once it has ended, or as it is after the time that was asked for."""
        request = parse(operations.WaitOperationRequest, raw)
        job = from_name("operations", request.name)
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as held:
            wanted_s = wait_s(request)
            try:
                held.enter_context(self._places.place(client))
            except ResourceExhausted:
                wanted_s = min(wanted_s, _NO_PLACE_S)
            end = loop.time() + wanted_s
            while True:
                record, version = await self._read(job, client)
                left = end - loop.time()
                if record.state.is_final or left <= 0:
                    return to_operation(to_job(record))
                await self._waits.changed(job, version, left)

    async def watch(self, raw: bytes, client: str) -> AsyncGenerator[tuple[Message, CallPlace]]:
        """Yield a job now and at each change, until it has ended or the queue was closed.

        Each message comes with the place of the call, within which it is to be sent.

        Raises:
            ResourceExhausted: too many calls wait, and the client has its share of them.
            ServerUnavailable: the call had to make room for another client's.
        """
        job = from_name("operations", parse(jobs_pb2.WatchJobRequest, raw).name)
        end = asyncio.get_running_loop().time() + WATCH_S
        with self._places.place(client) as place:
            record, version = await self._read(job, client)
            yield to_operation(to_job(record)), place
            while not record.state.is_final:
                left = end - asyncio.get_running_loop().time()
                if left <= 0:
                    return
                try:
                    waited = self._waits.changed(job, version, left)
                    await place.within(waited, 2 * left, "the wait did not end")
                    now, now_version = await self._read(job, client)
                except Conflict:
                    return
                if now_version != version:
                    record, version = now, now_version
                    yield to_operation(to_job(record)), place

    async def _read(self, job: str, client: str) -> tuple[JobRecord, int]:
        return await self._threads.run(client, self._jobs.read, job)
