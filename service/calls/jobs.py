"""google.longrunning.Operations and JobService: messages in, jobs, messages out."""

from collections.abc import Iterator

from google.longrunning import operations_pb2 as operations
from google.protobuf.empty_pb2 import Empty

from isogloss.errors import DeadlineExceeded, InvalidInput
from isogloss.proto.v1 import jobs_pb2
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.jobs import to_job, to_operation
from isogloss.service.wire.names import from_name
from isogloss.service.wire.pages import page_of

MAX_WAIT_S = 10.0
"""A call to WaitOperation is answered within this time, done or not."""


class JobHandlers:
    """Answers every call about jobs, whatever they make."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def get_operation(self, request: operations.GetOperationRequest) -> operations.Operation:
        """Return a job as it is now."""
        return to_operation(to_job(self._jobs.get(from_name("operations", request.name))))

    def list_operations(
        self, request: operations.ListOperationsRequest
    ) -> operations.ListOperationsResponse:
        """Return a page of all jobs, oldest first."""
        if request.filter:
            raise InvalidInput(f"filter {request.filter!r} is not supported: leave it empty")
        found = [to_job(record) for record in self._jobs.list()]
        found.sort(key=lambda job: f"{job.created:020.6f} {job.name}")
        page, token = page_of(
            found,
            lambda job: f"{job.created:020.6f} {job.name}",
            request.page_size,
            request.page_token,
            to_operation,
        )
        return operations.ListOperationsResponse(operations=page, next_page_token=token)

    def cancel_operation(self, request: operations.CancelOperationRequest) -> Empty:
        """Ask a job to end."""
        self._jobs.cancel(from_name("operations", request.name))
        return Empty()

    def wait_operation(self, request: operations.WaitOperationRequest) -> operations.Operation:
        """Return a job once it is done, or as it is after the time that was asked for."""
        job = from_name("operations", request.name)
        try:
            record = self._jobs.wait(job, wait_s(request))
        except DeadlineExceeded:
            record = self._jobs.get(job)
        return to_operation(to_job(record))

    def watch_job(
        self, request: jobs_pb2.WatchJobRequest
    ) -> Iterator[Framed[operations.Operation]]:
        """Return a job now and at each change, until it is done."""
        for record in self._jobs.watch(from_name("operations", request.name)):
            yield Framed(head=to_operation(to_job(record)), payload=())


def wait_s(request: operations.WaitOperationRequest) -> float:
    """Return for how many seconds a call to WaitOperation may take.

    Raises:
        InvalidInput: the request asks for less than nothing.
    """
    if not request.HasField("timeout"):
        return MAX_WAIT_S
    asked = request.timeout.ToMicroseconds() / 1e6
    if asked < 0:
        raise InvalidInput(f"timeout is {asked:g} s, wanted 0 or more")
    return min(asked, MAX_WAIT_S)
