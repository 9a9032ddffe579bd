"""The server's handle on its query process, which it starts at the first query or after a death."""

import asyncio
import contextlib
import logging
import math
import sys
import time

import grpc
import grpc.aio

from isogloss.errors import DeadlineExceeded, ServerUnavailable
from isogloss.service.jobs.processes import describe_end
from isogloss.service.server.grpc_calls import Forwarded
from isogloss.service.server.socket_directory import SocketDirectory
from isogloss.service.transport.over_grpc import MESSAGE_BYTES
from isogloss.service.values.addresses import READY
from isogloss.service.values.server import ServerProcess

_log = logging.getLogger(__name__)

_START_S = 60.0
_CLOSE_S = 3.0
_FREE_DEATHS = 3
"""Deaths in a row after which a child is started again at once: a query may have caused them."""
_LONGEST_PAUSE_S = 5.0
_ANSWER_SHARE, _LEAST_ANSWER_S = 0.05, 0.1
"""Of a call's time, what is left to say that the child still loads, before the caller gives up."""
_NO_ANSWERS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_WELL_S = 60.0
"""Deaths are in a row where the child lived less than this."""


class QueryProcess:
    """Forwards queries to a child process. Used from one event loop."""

    def __init__(self, location: str, *, threads: int = 4) -> None:
        self._location = location
        self._threads = threads
        self._directory = SocketDirectory()
        self._starting: asyncio.Task[grpc.aio.Channel] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._channel: grpc.aio.Channel | None = None
        self._has_answered = False
        self._deaths = 0
        self._in_a_row = 0
        self._last_end = ""
        self._born_s = self._not_before_s = -math.inf

    @property
    def pid(self) -> int | None:
        """Process id, while there is one."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    def described(self) -> ServerProcess:
        """Return the child as it is now; called from any thread."""
        return ServerProcess(
            name="query", pid=self.pid or 0, restarts=self._deaths, last_end=self._last_end
        )

    async def forward(self, path: str, raw: bytes, timeout_s: float | None) -> bytes:
        """Have the child answer a call; once more in a new child where it died.

        Raises:
            Forwarded: the child answered with a status.
            ServerUnavailable: it cannot be started, or died twice.
            DeadlineExceeded: it was started for this call, and has not answered in time.
        """
        if timeout_s is None or self._has_answered:
            return await self._forward(path, raw, timeout_s)
        # torch alone takes from a second to ten to load, where the machine is busy
        least_s = max(_LEAST_ANSWER_S, _ANSWER_SHARE * timeout_s)
        try:
            async with asyncio.timeout(max(0.0, timeout_s - least_s)):
                return await self._forward(path, raw, timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(
                "the query process, which was started for this call and loads torch first, had "
                f"not answered after {timeout_s:.3g} s; it goes on: call again, or with a longer "
                "timeout_s"
            ) from None

    async def _forward(self, path: str, raw: bytes, timeout_s: float | None) -> bytes:
        loop = asyncio.get_running_loop()
        end = None if timeout_s is None else loop.time() + timeout_s
        for is_last in (False, True):
            channel = await self._connect()
            left_s = None if end is None else max(0.0, end - loop.time())
            try:
                answer = await channel.unary_unary(path)(raw, timeout=left_s)
            except grpc.aio.AioRpcError as error:
                died = error.code() == grpc.StatusCode.UNAVAILABLE and (
                    channel is not self._channel or await self._has_ended()
                )
                self._has_answered |= error.code() not in _NO_ANSWERS
                if not died or is_last:
                    trailers = tuple((str(k), v) for k, v in error.trailing_metadata())
                    raise Forwarded(error.code(), error.details() or "", trailers) from None
            else:
                self._has_answered = True
                return answer
        raise ServerUnavailable("the query process died twice: see the server's log")

    async def close(self) -> None:
        """End the child."""
        for task in (self._starting, self._watching):
            if task is not None:
                task.cancel()
        if self._channel is not None:
            await self._channel.close()
        if self._process is not None:
            await _end(self._process)
        self._directory.remove()

    async def _has_ended(self) -> bool:
        process = self._process
        if process is None:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 1.0)
        return process.returncode is not None

    async def _connect(self) -> grpc.aio.Channel:
        """Return the channel to the child, which is started where there is none.

        A start goes on when its caller has no time left: another one that began anew each time
        would never end on a machine that is slower than its callers are patient.
        """
        if self._channel is not None and self.pid is not None:
            return self._channel
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_heard)
        return await asyncio.shield(self._starting)

    async def _start(self) -> grpc.aio.Channel:
        if self._channel is not None:
            old, self._channel = self._channel, None
            await old.close()
        self._count_death()
        left_s = self._not_before_s - time.monotonic()
        if left_s > 0:
            raise ServerUnavailable(
                f"the query process ended {self._in_a_row} times in a row, at last "
                f"{self._last_end}; it is started again in {left_s:.1f} s: ask then, and see "
                "the server's log"
            )
        self._has_answered = False
        self._born_s = time.monotonic()
        address = f"unix:{self._directory.path / 'query'}"
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "isogloss.service.processes.query"),
            *(self._location, address, str(self._threads)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._watching = asyncio.create_task(self._watch(self._process))
        await self._wait_until_ready(self._process)
        limit = ("grpc.max_receive_message_length", MESSAGE_BYTES)
        local = ("grpc.use_local_subchannel_pool", 1)
        self._channel = grpc.aio.insecure_channel(address, options=[limit, local])
        return self._channel

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Note the end of a child when it comes, not when somebody asks next."""
        await process.wait()
        if process is self._process:
            self._count_death()

    def _count_death(self) -> None:
        """Note that the child ended, if it did, and when the next may be started."""
        if self._process is None or self._process.returncode is None:
            return
        now = time.monotonic()
        self._deaths += 1
        self._in_a_row = self._in_a_row + 1 if now - self._born_s < _WELL_S else 1
        self._last_end = describe_end(self._process.returncode)
        _log.error(
            "the query process %d is gone: %s; the next question starts another",
            self._process.pid,
            self._last_end,
        )
        more = self._in_a_row - _FREE_DEATHS
        pause_s = 0.0 if more < 0 else min(0.5 * 2.0 ** min(more, 10), _LONGEST_PAUSE_S)
        self._not_before_s = now + pause_s
        self._process = None

    async def _wait_until_ready(self, process: asyncio.subprocess.Process) -> None:
        said = b""
        if process.stdout is not None:
            with contextlib.suppress(TimeoutError):
                said = await asyncio.wait_for(process.stdout.readline(), _START_S)
        if said != READY:
            await _end(process)
            raise ServerUnavailable(
                f"the query process did not start (exit code {process.returncode}): see the "
                "server's log"
            )


def _heard(starting: "asyncio.Task[grpc.aio.Channel]") -> None:
    """Take a start's error where its callers are gone; who calls next starts anew."""
    if not starting.cancelled():
        starting.exception()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _CLOSE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
