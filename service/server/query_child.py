"""The server's handle on its query process, which it starts at the first query or after a death."""

import asyncio
import contextlib
import sys

import grpc
import grpc.aio

from isogloss.errors import ServerUnavailable
from isogloss.service.server.grpc_calls import Forwarded
from isogloss.service.server.socket_directory import SocketDirectory
from isogloss.service.transport.over_grpc import MESSAGE_BYTES
from isogloss.service.values.addresses import READY

_START_S = 60.0
_CLOSE_S = 3.0


class QueryProcess:
    """Forwards queries to a child process. Used from one event loop."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._directory = SocketDirectory()
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._channel: grpc.aio.Channel | None = None

    @property
    def pid(self) -> int | None:
        """Process id, while there is one."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and running else None

    async def forward(self, path: str, raw: bytes, timeout_s: float | None) -> bytes:
        """Have the child answer a call; once more in a new child where it died.

        Raises:
            Forwarded: the child answered with a status.
            ServerUnavailable: it cannot be started, or died twice.
        """
        for is_last in (False, True):
            channel = await self._connect()
            try:
                return await channel.unary_unary(path)(raw, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                died = error.code() == grpc.StatusCode.UNAVAILABLE and await self._has_ended()
                if not died or is_last:
                    trailers = tuple((str(k), v) for k, v in error.trailing_metadata())
                    raise Forwarded(error.code(), error.details() or "", trailers) from None
        raise ServerUnavailable("the query process died twice: see the server's log")

    async def close(self) -> None:
        """End the child."""
        if self._channel is not None:
            await self._channel.close()
        if self._process is not None:
            await _end(self._process)
        self._directory.remove()

    async def _has_ended(self) -> bool:
        if self._process is None:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 1.0)
        return self._process.returncode is not None

    async def _connect(self) -> grpc.aio.Channel:
        async with self._starting:
            if self._channel is not None and self.pid is not None:
                return self._channel
            if self._channel is not None:
                await self._channel.close()
            address = f"unix:{self._directory.path / 'query'}"
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "isogloss.service.processes.query"),
                *(self._location, address),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            await self._wait_until_ready(self._process)
            limit = ("grpc.max_receive_message_length", MESSAGE_BYTES)
            local = ("grpc.use_local_subchannel_pool", 1)
            self._channel = grpc.aio.insecure_channel(address, options=[limit, local])
            return self._channel

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


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _CLOSE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
