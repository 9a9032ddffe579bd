"""``isogloss serve``: one process that owns a store and answers for it.

It takes appends and reads, queues jobs (which run in worker processes) and forwards questions about
features to a query process, so it imports neither torch nor faiss.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from isogloss.errors import InvalidInput, ServerUnavailable
from isogloss.service.calls.all import CHECKED, QUERIES, ControlHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.ingest.ingest import Ingest, IngestLimits
from isogloss.service.jobs.limits import JobLimits
from isogloss.service.server.check_address import check_address
from isogloss.service.server.grpc_calls import MAX_STREAMS, Calls
from isogloss.service.server.query_child import QueryProcess
from isogloss.service.server.token_file import store_token
from isogloss.service.server.token_guard import TokenGuard
from isogloss.service.transport.over_grpc import MESSAGE_BYTES
from isogloss.service.values.addresses import (
    Address,
    Listening,
    default_address,
    parse_address,
)
from isogloss.service.values.state_directory import location, make_state_directory
from isogloss.service.wire.methods import SERVICES
from isogloss.store import Store

_log = logging.getLogger(__name__)

_HEALTH_S = 1.0
"""How often the state of ingest is looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Settings of a server."""

    listen: tuple[str, ...] = ()
    """Addresses, ``unix:/path`` or ``host:port``; none: the store's own unix socket."""
    token: str | None = None
    """The token that TCP callers must send; None: the store's own, made when it is first needed."""
    certificate: Path | None = None
    """PEM certificate chain; with it every TCP port speaks TLS."""
    key: Path | None = None
    """PEM private key of the certificate."""
    reflection: bool = True
    """Whether callers may ask which services there are."""
    drain_s: float = 10.0
    """For how many seconds running calls may go on after SIGTERM."""
    max_calls: int = 1024
    """Calls at a time; more are refused with ResourceExhausted."""
    run_workers: bool = True
    """Whether this server runs the jobs."""
    group: str | None = None
    """Name of a group whose members may read the store's files; None: as it was."""
    limits: IngestLimits = field(default_factory=IngestLimits)
    """Limits of memory and sizes for ingest."""
    jobs: JobLimits = field(default_factory=JobLimits)
    """Limits of jobs: how many run, with how much memory, for how long; how long they are known."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("certificate and key go together: give both, or neither")
        if self.drain_s < 0 or self.max_calls < 1:
            raise InvalidInput(
                f"drain_s is {self.drain_s} and max_calls {self.max_calls}; wanted >= 0 and >= 1"
            )


class _Health(HealthServicer):
    """Says of the server and of each of its services whether it is well."""

    def __init__(self) -> None:
        super().__init__()
        self._state = health_pb2.HealthCheckResponse.NOT_SERVING

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

    Args:
        store: directory of the store, or address of an object store; created if it does not exist.
            Or an open store, which is closed at the end.
        config: settings of the server.
        on_ready: called with the addresses, with the real port numbers, once calls are answered.

    Raises:
        StoreOwned: another process owns the store.
        NotPermitted: an address would give other users access.
        ServerUnavailable: another process listens at an address.
    """
    asyncio.run(_serve(store, config or ServerConfig(), on_ready))


async def _serve(
    given: Store | Path | str,
    config: ServerConfig,
    on_ready: Callable[[Sequence[str]], None] | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listen = [parse_address(text) for text in config.listen]
    store = given if isinstance(given, Store) else Store.open(given, group=config.group)
    state = make_state_directory(store)
    addresses = listen or [default_address(state)]
    owner = Owner(
        store,
        run_workers=config.run_workers,
        limits=config.limits,
        job_limits=config.jobs,
        sweeps=True,
    )
    queries = QueryProcess(location(store))
    try:
        handlers = ControlHandlers(owner)
        calls = Calls(handlers, queries.forward, forwarded=QUERIES, checked=CHECKED)
        health = _Health()
        token = store_token(state, config.token)
        # who reaches the socket is let in by its directory's permissions; ports ask for the token
        local = _make_server(config, calls, health, [])
        ports = _make_server(config, calls, health, [TokenGuard(token, health.answer)])
        bound = [
            _listen(ports if address.socket is None else local, address, config)
            for address in addresses
        ]
        handlers.listening = Listening(
            addresses=tuple(bound),
            tls=config.certificate is not None,
            calls=config.max_calls,
            streams=MAX_STREAMS,
        )
        await local.start()
        await ports.start()
        await health.set_all(health_pb2.HealthCheckResponse.SERVING)
        store.set_server(bound[0])
        _log.info("serving %s on %s", location(store), ", ".join(bound))
        if on_ready is not None:
            on_ready(bound)
        watching = asyncio.create_task(_watch_ingest(owner.ingest, health))
        await stop.wait()
        _log.info("draining")
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await health.set_all(health_pb2.HealthCheckResponse.NOT_SERVING)
        calls.draining.set()
        stopping = asyncio.gather(local.stop(config.drain_s), ports.stop(config.drain_s))
        # Ends the workers at a checkpoint, and with them the calls that watch jobs.
        await asyncio.to_thread(owner.jobs.close)
        await asyncio.to_thread(owner.upkeep.close)
        await stopping
        calls.close()
    finally:
        await queries.close()
        await asyncio.to_thread(owner.close)
        for address in addresses:
            if address.socket is not None:
                address.socket.unlink(missing_ok=True)


async def _watch_ingest(ingest: Ingest, health: _Health) -> None:
    """Say NOT_SERVING while nothing can be recorded, so that callers can go elsewhere."""
    was_well = True
    while True:
        await asyncio.sleep(_HEALTH_S)
        is_well = await asyncio.to_thread(ingest.is_well)
        if is_well != was_well:
            was_well = is_well
            states = health_pb2.HealthCheckResponse
            await health.set_all(states.SERVING if is_well else states.NOT_SERVING)


def _make_server(
    config: ServerConfig,
    calls: Calls,
    health: HealthServicer,
    interceptors: Sequence[grpc.aio.ServerInterceptor],
) -> grpc.aio.Server:
    server = grpc.aio.server(
        interceptors=interceptors,
        maximum_concurrent_rpcs=config.max_calls,
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
        ],
    )
    server.add_generic_rpc_handlers(calls.generic_handlers())
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if config.reflection:
        reflection.enable_server_reflection((*SERVICES, reflection.SERVICE_NAME), server)
    return server


def _listen(server: grpc.aio.Server, address: Address, config: ServerConfig) -> str:
    """Bind one address; return it with its port resolved."""
    check_address(address, has_tls=config.certificate is not None)
    try:
        if address.socket is not None or config.certificate is None or config.key is None:
            port = server.add_insecure_port(str(address))
        else:
            pair = (config.key.read_bytes(), config.certificate.read_bytes())
            port = server.add_secure_port(str(address), grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        raise ServerUnavailable(
            f"cannot listen on {address}: {error}; is the address taken?"
        ) from error
    if address.socket is not None:
        address.socket.chmod(0o600)
        return str(address)
    return str(Address(host=address.host, port=port))
