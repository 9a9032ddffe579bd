"""Open a store in this process, or connect to the server that owns it."""

import asyncio
import os
from pathlib import Path

from isogloss.errors import IsoglossError
from isogloss.service.client.client import AsyncClient, Client
from isogloss.service.client.destination import find_destination
from isogloss.service.transport.credentials import read_certificate
from isogloss.service.transport.in_process import AsyncLocalTransport, LocalTransport
from isogloss.service.transport.over_grpc import AsyncGrpcTransport, GrpcTransport

CERTIFICATE_VARIABLE = "ISOGLOSS_CERTIFICATE"


def connect(
    address: str | Path,
    *,
    token: str | None = None,
    certificate: str | Path | None = None,
    timeout_s: float = 30.0,
    run_workers: bool = True,
    read_only: bool = False,
) -> Client:
    """Open a store in this process, or connect to a server.

    Args:
        address: the store or the server. A path, or the address of an object store such as
            ``s3://bucket/prefix``: this process becomes the store's owner until the client is
            closed; if a server owns the store already, the client calls that server. ``unix:/path``
            or ``host:port``: the client calls the server there.
        token: the token of a server on TCP. None: that in the environment variable ISOGLOSS_TOKEN,
            or in the file that ISOGLOSS_TOKEN_FILE names, which only its owner may read; where
            ``address`` is a path, else the one kept with the store.
        certificate: path of a PEM file with the certificate that signed the server's. The client
            then uses TLS; on a unix socket, where nobody does, it is read and not used. None: for a
            server on TCP that in the environment variable ISOGLOSS_CERTIFICATE, if it is set.
        timeout_s: how many seconds a call may take.
        run_workers: whether this process, if it becomes the owner, also runs the store's queued
            jobs. With False they stay queued, and waiting for one ends only by its timeout. Ignored
            when a server is called.
        read_only: whether a store that no server owns is only read: also while another process
            owns it, and from storage that takes no writes. Calls that change something raise
            NotPermitted. Ignored when a server is called; one that is its user's alone is not.

    Returns:
        The client. Its store is open, or its server has answered.

    Raises:
        StoreOwned: another process owns the store and runs no server, and ``read_only`` is False.
        NotFound: there is no store to read, and ``read_only`` is True.
        ServerUnavailable: no server answers at the address.
    """
    found = find_destination(address, token, run_workers=run_workers, read_only=read_only)
    if found.handlers is not None:
        local = LocalTransport(found.handlers, str(address))
        return Client(local, timeout_s=timeout_s, is_local=True)
    server = found.address or str(address)
    pem = _pem(certificate, server)
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
    read_only: bool = False,
) -> "AsyncClient":
    """Open a store in this process, or connect to a server.

    Arguments, result and errors are those of :func:`connect`; the client is asynchronous.
    """
    found = await asyncio.to_thread(
        find_destination, address, token, run_workers=run_workers, read_only=read_only
    )
    if found.handlers is not None:
        local = AsyncLocalTransport(LocalTransport(found.handlers, str(address)))
        return AsyncClient(local, timeout_s=timeout_s, is_local=True)
    server = found.address or str(address)
    pem = _pem(certificate, server)
    client = AsyncClient(
        AsyncGrpcTransport(server, token=found.token, certificate=pem), timeout_s=timeout_s
    )
    try:
        await client.ping()
    except IsoglossError:
        await client.close()
        raise
    return client


def _pem(certificate: str | Path | None, server: str) -> bytes | None:
    """Return the certificate to speak TLS with; None where the server is called without."""
    is_socket = server.startswith("unix:")
    path = certificate
    if path is None and not is_socket:
        path = os.environ.get(CERTIFICATE_VARIABLE) or None
    pem = None if path is None else read_certificate(path)
    return None if is_socket else pem
