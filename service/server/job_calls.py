"""The calls that wait for jobs, answered without a thread each."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor

from google.longrunning import operations_pb2 as operations
from google.protobuf.message import Message

from isogloss.errors import Conflict
from isogloss.proto.v1 import jobs_pb2
from isogloss.service.calls.jobs import wait_s
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.server.job_waits import JobWaits
from isogloss.service.values.jobs import JobRecord
from isogloss.service.wire.framing import parse
from isogloss.service.wire.jobs import to_job, to_operation
from isogloss.service.wire.methods import method_of
from isogloss.service.wire.names import from_name

WAIT = method_of(operations.WaitOperationRequest, operations.Operation)
WATCH = method_of(jobs_pb2.WatchJobRequest, operations.Operation)


class JobCalls:
    """Answers WaitOperation and WatchJob of a server. For one event loop."""

    def __init__(self, jobs: Jobs, threads: Executor) -> None:
        """Answer from a queue of jobs, reading it in the given threads."""
        self._jobs = jobs
        self._threads = threads
        self._waits = JobWaits(jobs.versions)

    def close(self) -> None:
        """End what waits."""
        self._waits.close()

    async def wait(self, raw: bytes) -> Message:
        """Return a job once it has ended, or as it is after the time that was asked for."""
        request = parse(operations.WaitOperationRequest, raw)
        job = from_name("operations", request.name)
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_s(request)
        while True:
            record, version = await self._read(job)
            left = end - loop.time()
            if record.state.is_final or left <= 0:
                return to_operation(to_job(record))
            await self._waits.changed(job, version, left)

    async def watch(self, raw: bytes) -> AsyncIterator[Message]:
        """Yield a job now and at each change, until it has ended or the queue was closed."""
        job = from_name("operations", parse(jobs_pb2.WatchJobRequest, raw).name)
        record, version = await self._read(job)
        yield to_operation(to_job(record))
        while not record.state.is_final:
            try:
                await self._waits.changed(job, version)
                record, version = await self._read(job)
            except Conflict:
                return
            yield to_operation(to_job(record))

    async def _read(self, job: str) -> tuple[JobRecord, int]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._jobs.read, job)
