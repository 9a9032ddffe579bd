"""What both clients are built on: closing, stopping, and where they lead."""

import asyncio
from pathlib import Path

import pytest

from isogloss.errors import Conflict
from isogloss.proto.v1 import server_pb2 as pb
from isogloss.service.calls.all import LocalHandlers
from isogloss.service.client import connection
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.control.owner import Owner
from isogloss.service.transport.call import Call, ask
from isogloss.service.transport.in_process import AsyncLocalTransport, LocalTransport
from isogloss.store import Store


def local(root: Path) -> LocalTransport:
    owner = Owner(Store.open(root), run_workers=False)
    return LocalTransport(LocalHandlers(owner), str(root))


def info() -> Call[pb.ServerInfo]:
    return ask(pb.GetServerInfoRequest(), pb.ServerInfo)


def is_free(root: Path) -> bool:
    Store.open(root).close()
    return True


def test_a_connection_is_closed_once_and_then_refuses_calls(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Connection(local(root), timeout_s=7, is_local=True) as found:
        assert (found.address, found.timeout_s, found.is_local) == (str(root), 7, True)
        assert found.run(info()).version
    assert is_free(root)
    found.close()
    with pytest.raises(Conflict, match="this client was closed: connect again"):
        found.run(info())


def test_a_connection_that_was_stopped_says_why_and_keeps_its_transport(tmp_path: Path) -> None:
    transport = local(tmp_path / "store")
    stopped = Connection(transport)
    assert (stopped.timeout_s, stopped.is_local) == (30, False)
    stopped._stop("the first reason")
    stopped._stop("the second reason")
    stopped.close()
    with pytest.raises(Conflict, match="the first reason"):
        stopped.run(info())
    with Connection(transport) as other:
        assert other.run(info()).version


def test_a_fork_does_not_use_or_close_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Connection(local(tmp_path / "store")) as found:
        pid = found._process
        with monkeypatch.context() as fork:
            fork.setattr(connection.os, "getpid", lambda: pid + 1)
            with pytest.raises(Conflict, match=f"made in process {pid} and cannot be used in its"):
                found.run(info())
            found.close()
        assert found.run(info()).version


def test_the_asynchronous_connection_does_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"

    async def use() -> None:
        transport = AsyncLocalTransport(local(root))
        async with AsyncConnection(transport, timeout_s=7, is_local=True) as found:
            assert (found.address, found.timeout_s, found.is_local) == (str(root), 7, True)
            assert (await found.run(info())).version
            blocking = found._blocking()
            assert (blocking.timeout_s, blocking.is_local) == (7, True)
            assert blocking.run(info()).version
            with monkeypatch.context() as fork:
                fork.setattr(connection.os, "getpid", lambda: found._process + 1)
                await found.close()
                with pytest.raises(Conflict, match="connect again there"):
                    await found.run(info())
            assert (await found.run(info())).version
        assert is_free(root)
        await found.close()
        for use_it in (lambda: found._blocking(), lambda: found._usable_transport):
            with pytest.raises(Conflict, match="closed: connect again"):
                use_it()

    asyncio.run(use())
