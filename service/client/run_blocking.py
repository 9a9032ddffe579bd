"""What the blocking client is built on: its life, running plans, following streams, jobs."""

import os
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self, TypeVar

from isogloss.errors import Conflict, IsoglossError, ServerUnavailable
from isogloss.proto.v1 import jobs_pb2
from isogloss.service.client import requests
from isogloss.service.client.job import Job, Made, fetch_of
from isogloss.service.transport.follow import Following
from isogloss.service.transport.in_process import LocalTransport
from isogloss.service.transport.patience import Patience
from isogloss.service.transport.plans import Pause, Plan, Running
from isogloss.service.transport.seam import Transport
from isogloss.service.values.results import JobInfo
from isogloss.service.wire import methods
from isogloss.service.wire.features import from_operation
from isogloss.service.wire.recordings import to_name

T = TypeVar("T")


class BlockingClient:
    """A transport, the process it belongs to, and how plans are run over it."""

    def __init__(self, transport: Transport, *, timeout_s: float = 30.0) -> None:
        """Take a transport; :func:`connect` makes the right one."""
        self._transport = transport
        self._timeout_s = timeout_s
        self._process = os.getpid()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Path of the store, or address of the server."""
        return self._transport.address

    @property
    def is_local(self) -> bool:
        """Whether this process owns the store."""
        return isinstance(self._transport, LocalTransport)

    def close(self) -> None:
        """Let go of the store or the connection. Later calls do nothing."""
        if not self._closed and self._process == os.getpid():
            self._closed = True
            self._transport.close()

    def run(self, plan: Plan[T]) -> T:
        """Run a plan of :mod:`isogloss.service.client.requests` with blocking calls."""
        self._check_usable()
        running = Running(plan)
        while (step := running.step) is not None:
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                running.send(None)
                continue
            try:
                timeout_s = self._timeout_s + step.extra_s
                answer = self._transport.unary(step.method, step.request, timeout_s)
            except IsoglossError as error:
                running.throw(error)
            else:
                running.send(answer)
        return running.result()

    def ping(self) -> None:
        """Make one small call: raises what stands in the way of any call."""
        self.run(requests.ping())

    def follow(self, following: Following[T]) -> T:
        """Take a stream to its end and return what it came to."""
        self._check_usable()
        for block in self._transport.stream(following.method, following.request):
            following.take(block.head)
        return following.result()

    # Jobs.

    def jobs(self) -> list[JobInfo]:
        """Return all jobs, oldest first."""
        return self.run(requests.jobs())

    def job(self, name: str) -> Job[Made]:
        """Return the handle of a job; NotFound where there is none."""
        kind = self.run(requests.job(name)).kind
        return Job(self, name, kind, *fetch_of(kind))

    def watch(self, job: str) -> Iterator[JobInfo]:
        """Yield a job now and at each change until it is done; outlasts server restarts."""
        self._check_usable()
        request = jobs_pb2.WatchJobRequest(name=to_name("operations", job))
        patience = Patience()
        while True:
            try:
                for block in self._transport.stream(methods.WATCH_JOB, request):
                    patience.reset()
                    info = from_operation(block.head)
                    yield info
                    if info.is_done:
                        return
                ended = ServerUnavailable(f"{self.address}: the stream of job {job!r} ended early")
            except ServerUnavailable as error:
                ended = error
            time.sleep(patience.pause_s(ended))

    def _check_usable(self) -> None:
        if self._process != os.getpid():
            raise Conflict(
                f"this client was made in process {self._process} and cannot be used in its fork "
                f"{os.getpid()}: connect again there, or use the spawn start method"
            )
        if self._closed:
            raise Conflict("this client was closed: connect again")
