"""Open a store in this process, or connect to the server that has it."""

import asyncio
from pathlib import Path

from isogloss.errors import IsoglossError
from isogloss.service.client.client import AsyncClient, Client
from isogloss.service.client.destination import find_destination
from isogloss.service.transport.in_process import AsyncLocalTransport, LocalTransport
from isogloss.service.transport.over_grpc import AsyncGrpcTransport, GrpcTransport, read_certificate


def connect(
    address: str | Path,
    *,
    token: str | None = None,
    certificate: str | Path | None = None,
    timeout_s: float = 30.0,
    run_workers: bool = True,
) -> Client:
    """Open a store, or connect to a server.

    Args:
        address: a path, or the address of an object store such as ``s3://bucket/prefix``: this
            process owns the store until the client is closed, or where a server owns it, that
            server is called. ``unix:/path`` or ``host:port``: that server is called.
        token: for servers on TCP; None takes the environment variable ISOGLOSS_TOKEN.
        certificate: PEM file of what signs the server's certificate; with it TLS is spoken.
        timeout_s: how long a call may take.
        run_workers: whether a store owned by this process also runs its queued jobs. With False
            they stay queued, and waiting for one ends at its timeout only. A server decides for
            itself, and this is ignored.

    Returns:
        The client, which has the store, or a connection that was answered.

    Raises:
        StoreOwned: another process has the store and runs no server.
        ServerUnavailable: no server answers at the address.
    """
    found = find_destination(address, token, run_workers=run_workers)
    if found.handlers is not None:
        local = LocalTransport(found.handlers, str(address))
        return Client(local, timeout_s=timeout_s, is_local=True)
    pem = None if certificate is None else read_certificate(certificate)
    server = found.address or str(address)
    client = Client(GrpcTransport(server, token=found.token, certificate=pem), timeout_s=timeout_s)
    try:
        client.ping()
    except IsoglossError:
        client.close()
        raise
    return client


async def connect_async(
    address: str | Path,
    *,
    token: str | None = None,
    certificate: str | Path | None = None,
    timeout_s: float = 30.0,
    run_workers: bool = True,
) -> "AsyncClient":
    """Open a store, or connect to a server; arguments and errors as for :func:`connect`."""
    found = await asyncio.to_thread(find_destination, address, token, run_workers=run_workers)
    if found.handlers is not None:
        local = AsyncLocalTransport(LocalTransport(found.handlers, str(address)))
        return AsyncClient(local, timeout_s=timeout_s, is_local=True)
    pem = None if certificate is None else read_certificate(certificate)
    server = found.address or str(address)
    client = AsyncClient(
        AsyncGrpcTransport(server, token=found.token, certificate=pem), timeout_s=timeout_s
    )
    try:
        await client.ping()
    except IsoglossError:
        await client.close()
        raise
    return client
