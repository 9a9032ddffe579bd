"""The calls about one job: ask how it is, cancel it, wait until it has ended."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.longrunning import operations_pb2 as operations
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty

from isogloss.errors import (
    DeadlineExceeded,
    InvalidInput,
    JobCancelled,
    JobFailed,
    ServerUnavailable,
)
from isogloss.proto.v1 import jobs_pb2
from isogloss.service.transport.call import (
    Call,
    Emit,
    Feed,
    Open,
    Pause,
    ask,
    next_message,
    reading,
    then,
)
from isogloss.service.transport.patience import Patience
from isogloss.service.values.results import JobInfo
from isogloss.service.wire.jobs import from_operation
from isogloss.service.wire.methods import method_of
from isogloss.service.wire.names import from_name, to_name

T = TypeVar("T")

_WAIT_S = 10.0
"""How long one call waits; the server answers within this time, done or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Started(Generic[T]):
    """A job that was begun or found, and how to get what it makes."""

    name: str
    """Id of the job."""
    kind: str
    """Name of the kind of job, such as ``train``."""
    collection: str
    """Kind of resource that the job makes, as in resource names: such as ``dictionaries``."""
    fetch: Callable[[str], Call[T]]
    """Makes the call that gets the job's result by its id."""


def started(
    collection: str, fetch: Callable[[str], Call[T]]
) -> Callable[[operations.Operation], Started[T]]:
    """Return a function that makes a :class:`Started` of the answer of a call that begins a job."""

    def read(operation: operations.Operation) -> Started[T]:
        found = from_operation(operation)
        return Started(name=found.name, kind=found.kind, collection=collection, fetch=fetch)

    return read


def get_job(name: str) -> Call[JobInfo]:
    """Ask how a job is now."""
    request = operations.GetOperationRequest(name=to_name("operations", name))
    return then(ask(request, operations.Operation), from_operation)


def cancel(name: str) -> Call[None]:
    """Ask a job to stop."""
    request = operations.CancelOperationRequest(name=to_name("operations", name))
    return then(ask(request, Empty), lambda _: None)


def wait(name: str, timeout_s: float | None) -> Call[JobInfo]:
    """Wait until a job has ended; if the server restarts meanwhile, go on waiting.

    Args:
        name: id of the job.
        timeout_s: how many seconds to wait; None: without limit.

    Returns:
        The job, which has succeeded.

    Raises:
        JobCancelled: the job was cancelled.
        JobFailed: the job failed; the message holds the reason and the last output of its process.
        DeadlineExceeded: the job had not ended after ``timeout_s``; it goes on.
        ServerUnavailable: the server stopped answering, and did not answer again within a minute.
        InvalidInput: ``timeout_s`` is NaN.
    """
    if timeout_s is not None and math.isnan(timeout_s):
        raise InvalidInput(
            "timeout_s is nan, wanted a number of seconds: leave it out for no limit"
        )
    return _wait(name, timeout_s)


def _wait(name: str, timeout_s: float | None) -> Call[JobInfo]:
    end = None if timeout_s is None else time.monotonic() + timeout_s
    patience = Patience()
    while True:
        left = _WAIT_S if end is None else min(_WAIT_S, end - time.monotonic())
        if left <= 0:
            raise DeadlineExceeded(
                f"job {name!r} was not done after {timeout_s:g} s; it goes on: wait again, or "
                "cancel it"
            )
        request = operations.WaitOperationRequest(name=to_name("operations", name))
        request.timeout.CopyFrom(_duration(left))
        try:
            answer = yield from ask(request, operations.Operation, left)
        except ServerUnavailable as error:
            yield Pause(patience.pause_s(error))
            continue
        patience.reset()
        found = reading(from_operation, answer)
        if found.state == "CANCELLED":
            raise JobCancelled(f"job {name!r} was cancelled; submit it again to go on")
        if found.state == "FAILED":
            reason, message = found.error or ("JOB_FAILED", "no reason is known")
            raise JobFailed(f"job {name!r} failed ({reason}): {message}")
        if found.is_done:
            return found


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration


def result(job: Started[T], timeout_s: float | None) -> Call[T]:
    """Wait until a job has ended, then get what it made; errors as for :func:`wait`."""
    done = yield from wait(job.name, timeout_s)
    made = reading(lambda name: from_name(job.collection, name), done.made)
    return (yield from job.fetch(made))


def watch(job: str) -> Feed[JobInfo]:
    """Yield how a job is now, and again after each change, until it has ended.

    Args:
        job: id of the job.

    Raises:
        NotFound: there is no job with that id.
        ServerUnavailable: the server stopped answering, and did not answer again within a minute.
    """
    request = jobs_pb2.WatchJobRequest(name=to_name("operations", job))
    method = method_of(jobs_pb2.WatchJobRequest, operations.Operation)
    patience = Patience()
    while True:
        try:
            yield Open(method, request)
            while (message := (yield from next_message(operations.Operation))) is not None:
                patience.reset()
                info = reading(from_operation, message.head)
                yield Emit(info)
                if info.is_done:
                    return
            ended = ServerUnavailable(f"the stream of job {job!r} ended early")
        except ServerUnavailable as error:
            ended = error
        yield Pause(patience.pause_s(ended))
