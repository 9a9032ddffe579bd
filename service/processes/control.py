"""The process that owns a store and answers for it.

``isogloss serve`` starts it, and starts it again when it died: :mod:`.keeping`. It takes appends
and reads, queues jobs (which run in worker processes) and forwards questions about features to a
query process, so it imports neither torch nor faiss.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from isogloss.errors import IsoglossError, ServerUnavailable
from isogloss.service.calls.all import CHECKED, QUERIES, ControlHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.processes.config import Lives, ServerConfig, from_line
from isogloss.service.processes.fair_calls import FairCalls
from isogloss.service.processes.heap import keep_freed_memory, seldom_look_for_cycles
from isogloss.service.server.check_address import check_address, check_free
from isogloss.service.server.grpc_calls import Calls
from isogloss.service.server.guards.drain_guard import DrainGuard
from isogloss.service.server.guards.token_guard import TokenGuard
from isogloss.service.server.query_child import QueryProcess
from isogloss.service.server.token_file import check_token, store_token
from isogloss.service.transport.credentials import check_pair, read_pem
from isogloss.service.transport.over_grpc import MESSAGE_BYTES
from isogloss.service.values.addresses import (
    Address,
    Listening,
    default_address,
    parse_address,
)
from isogloss.service.values.server import ServerProcess
from isogloss.service.values.state_directory import location, make_state_directory
from isogloss.service.wire.methods import SERVICES
from isogloss.store import Store, store_owner

_log = logging.getLogger(__name__)

_WATCH_S = 1.0
"""How often the state of ingest is looked at, and whether the sockets are there."""
_COMMIT_S = 5.0
"""How long what was received and told to nobody may still be committed at the end."""
_FLUSH_S = 10.0
"""How long answers that were given may take to leave: on a busy machine that is not at once."""


class _Health(HealthServicer):
    """Says of the server and of each of its services whether it is well."""

    def __init__(self) -> None:
        super().__init__()
        self._state = health_pb2.HealthCheckResponse.NOT_SERVING
        self._ended = asyncio.Event()

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Say how the server is, whenever that changes, until :meth:`end_watches`."""
        watching = asyncio.ensure_future(super().Watch(request, context))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((watching, ended), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
        finally:
            ended.cancel()
            watching.cancel()

    def end_watches(self) -> None:
        """Let those go who watch, which they would for ever."""
        self._ended.set()

    async def set_all(self, state: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        """Set the state of the server and of its services."""
        self._state = state
        for service in ("", *SERVICES):
            await self.set(service, state)

    def answer(self) -> bytes:
        """Return the encoded answer to a check of the whole server."""
        return health_pb2.HealthCheckResponse(status=self._state).SerializeToString()


def serve(
    store: Store | Path | str,
    config: ServerConfig | None = None,
    *,
    on_ready: Callable[[Sequence[str]], None] | None = None,
) -> None:
    """Own a store and answer its calls until SIGTERM or SIGINT; then finish running calls.

    A second signal ends the process at once, as SIGKILL would: what was acknowledged stays.

    Args:
        store: directory of the store, or address of an object store; created if it does not exist.
            Or an open store, which is closed at the end.
        config: settings of the server.
        on_ready: called with the addresses, with the real port numbers, once calls are answered.

    Raises:
        StoreOwned: another process owns the store.
        NotPermitted: an address would give other users access.
        ServerUnavailable: another process listens at an address, or a unix socket was removed while
            it was served.
    """
    keep_freed_memory()
    asyncio.run(_Server(store, config or ServerConfig(), Lives()).run(on_ready))


class _Server:
    """One life of a server."""

    def __init__(self, given: Store | Path | str, config: ServerConfig, lives: Lives) -> None:
        self._given = given
        self._config = config
        self._lives = lives
        self._guard = DrainGuard()
        self._fair = FairCalls(config.calls.max_calls, config.calls.part_idle_s)
        self._stop = asyncio.Event()
        self._signals = 0
        self._sockets: dict[Path, tuple[int, int]] = {}  # device and inode of each
        self._failure: ServerUnavailable | None = None
        self._health = _Health()

    async def run(self, on_ready: Callable[[Sequence[str]], None] | None) -> None:
        """Serve until a signal, or :meth:`end`."""
        config, given = self._config, self._given
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        listen = [parse_address(text) for text in config.listen]
        # where somebody owns the store, opening it says so
        is_owned = isinstance(given, Store) or store_owner(given) is not None
        _check(config, [] if is_owned else listen)
        store = given if isinstance(given, Store) else Store.open(given, group=config.group)
        state = make_state_directory(store)
        addresses = listen or [default_address(state)]
        owner = self._own(store)
        queries = QueryProcess(location(store), threads=config.query_threads)
        try:
            handlers = ControlHandlers(owner)
            calls = self._calls(handlers, queries)
            token = store_token(state, config.token)
            # who reaches the socket is let in by its directory's permissions; ports ask for the
            # token
            local = self._make_server(calls)
            guard = TokenGuard(token, self._health.answer, config.calls.max_calls)
            ports = self._make_server(calls, guard)
            bound = [
                _listen(ports if address.socket is None else local, address, config)
                for address in addresses
            ]
            handlers.listening = Listening(
                addresses=tuple(bound),
                tls=config.certificate is not None,
                calls=config.calls.max_calls,
                streams=config.calls.streams,
            )
            await local.start()
            await ports.start()
            sockets = [address.socket for address in addresses if address.socket is not None]
            self._sockets = {path: _inode(path) for path in sockets}
            await self._health.set_all(health_pb2.HealthCheckResponse.SERVING)
            store.set_server(bound[0])
            _log.info("serving %s on %s", location(store), ", ".join(bound))
            if on_ready is not None:
                on_ready(bound)
            await self._until_stopped(owner.ingest)
            guard.end()
            await self._drain(owner, calls, (local, ports))
        finally:
            await queries.close()
            # who was promised something has heard of it by now, or its call has ended
            await asyncio.to_thread(owner.close, _COMMIT_S)
            for path, inode in self._sockets.items():
                if _inode(path) == inode:  # else it is another server's
                    path.unlink(missing_ok=True)
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Have the server end as on SIGTERM."""
        self._stop.set()

    def _signalled(self, number: signal.Signals) -> None:
        self._signals += 1
        if self._signals > 1:  # the end of standard input does not count: both come with systemd
            _log.warning("told again to end: ending at once")
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._stop.set()

    async def _until_stopped(self, ingest: Ingest) -> None:
        tasks = [
            asyncio.create_task(_watch_ingest(ingest, self._health)),
            asyncio.create_task(self._watch_sockets()),
        ]
        await self._stop.wait()
        for watching in tasks:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _watch_sockets(self) -> None:
        """End this server where its socket was removed: grpc binds once, and nobody reaches it."""
        while True:
            await asyncio.sleep(_WATCH_S)
            lost = [path for path, inode in self._sockets.items() if _inode(path) != inode]
            if lost:
                self._failure = ServerUnavailable(
                    f"the socket {lost[0]} was removed beneath the server: serve the store again"
                )
                _log.error("%s", self._failure)
                self._stop.set()
                return

    async def _drain(
        self, owner: Owner, calls: Calls, servers: tuple[grpc.aio.Server, ...]
    ) -> None:
        """Say that this server goes, refuse new calls, and let those end that run."""
        _log.info("draining")
        await self._health.set_all(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._guard.draining = True
        calls.drain()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._config.drain_s
        # Ends the workers at a checkpoint, and with them the calls that watch jobs.
        await asyncio.to_thread(owner.jobs.close)
        await asyncio.to_thread(owner.upkeep.close)
        await calls.until_idle(max(0.0, end - loop.time()))
        self._health.end_watches()
        # what still runs now has no time left, or is an answer on its way
        grace_s = min(_FLUSH_S, max(0.0, end - loop.time()))
        await asyncio.gather(*(server.stop(grace_s) for server in servers))
        calls.close()

    def _calls(self, handlers: ControlHandlers, queries: QueryProcess) -> Calls:
        handlers.processes = lambda: (self._described(), queries.described())
        return Calls(
            handlers,
            queries.forward,
            forwarded=QUERIES,
            checked=CHECKED,
            limits=self._config.calls,
        )

    def _own(self, store: Store) -> Owner:
        config = self._config
        return Owner(
            store,
            run_workers=config.run_workers,
            limits=config.limits,
            job_limits=config.jobs,
            sweeps=True,
        )

    def _make_server(self, calls: Calls, guard: TokenGuard | None = None) -> grpc.aio.Server:
        before, waiting = ([], 0) if guard is None else ([guard], guard.waiting)
        server = grpc.aio.server(
            interceptors=[*before, self._guard, self._fair],
            # those beyond the places are refused by name; beyond this before anything is looked at
            maximum_concurrent_rpcs=2 * self._config.calls.max_calls + waiting,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                # what nobody reads yet waits with its sender: windows that grow had let 128 streams
                # of a slow disk fill 1.4 GiB
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
            ],
        )
        server.add_generic_rpc_handlers(calls.generic_handlers())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._config.reflection:
            reflection.enable_server_reflection((*SERVICES, reflection.SERVICE_NAME), server)
        return server

    def _described(self) -> ServerProcess:
        return ServerProcess(
            name="control",
            pid=os.getpid(),
            restarts=self._lives.restarts,
            last_end=self._lives.last_end,
        )


async def _watch_ingest(ingest: Ingest, health: _Health) -> None:
    """Say NOT_SERVING while nothing can be recorded, so that callers can go elsewhere."""
    was_well = True
    while True:
        is_well = await asyncio.to_thread(ingest.is_well)
        if is_well != was_well:
            was_well = is_well
            states = health_pb2.HealthCheckResponse
            await health.set_all(states.SERVING if is_well else states.NOT_SERVING)
        await asyncio.sleep(_WATCH_S)


def _check(config: ServerConfig, listen: Sequence[Address]) -> None:
    """Refuse settings with which no server starts, before a store is made for it."""
    for address in listen:
        check_free(address, has_tls=config.certificate is not None)
    if config.token is not None:
        check_token(config.token)
    if config.certificate is not None and config.key is not None:
        check_pair(config.certificate, config.key)


def _or_no_pair(config: ServerConfig) -> str:
    """Return what else may be wrong with a port that speaks TLS."""
    if config.certificate is None:
        return ""
    return f", or are {config.certificate} and {config.key} no certificate and its key in PEM"


def _listen(server: grpc.aio.Server, address: Address, config: ServerConfig) -> str:
    """Bind one address; return it with its port resolved."""
    check_address(address, has_tls=config.certificate is not None)
    try:
        if address.socket is not None or config.certificate is None or config.key is None:
            port = server.add_insecure_port(str(address))
        else:
            pair = (read_pem(config.key), read_pem(config.certificate))
            port = server.add_secure_port(str(address), grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        raise ServerUnavailable(
            f"cannot listen on {address}: {error}; is the address taken{_or_no_pair(config)}?"
        ) from error
    if address.socket is not None:
        address.socket.chmod(0o600)
        return str(address)
    return str(Address(host=address.host, port=port))


def _inode(path: Path) -> tuple[int, int]:
    """Return device and inode of a path; zeros where there is nothing."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def main(location: str) -> None:
    """Serve a store for the process that wrote the settings to standard input.

    Says on standard output, as a line of JSON, at which addresses, or why not. Ends as on SIGTERM
    when standard input does, since then that process has ended.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config, lives = from_line(sys.stdin.buffer.readline())
    keep_freed_memory()
    seldom_look_for_cycles()
    try:
        asyncio.run(_serve_for_parent(location, config, lives))
    except (IsoglossError, OSError) as error:
        _say({"reason": getattr(error, "reason", ""), "message": str(error)})
        sys.exit(1)


async def _serve_for_parent(location: str, config: ServerConfig, lives: Lives) -> None:
    server = _Server(location, config, lives)
    loop = asyncio.get_running_loop()

    def gone() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            server.end()

    loop.add_reader(sys.stdin.fileno(), gone)
    await server.run(lambda addresses: _say({"addresses": list(addresses)}))


def _say(found: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # who would read it is gone
        os.write(sys.stdout.fileno(), json.dumps(found).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
