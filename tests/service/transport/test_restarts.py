"""Calls over a channel while the server is killed and started again."""

import asyncio
import threading
from pathlib import Path

import pytest
from tests.service.serving import Server, start_server

import isogloss
from isogloss.errors import ServerUnavailable
from isogloss.store.testing import sample_spec


def start_after(server: Server, store: Path, listen: str, pause_s: float) -> list[Server]:
    """Kill a server; start the next one after a pause, in a thread; return where it will be."""
    server.kill()
    started: list[Server] = []

    def start() -> None:
        threading.Event().wait(pause_s)
        started.append(start_server(store, "--listen", listen))

    threading.Thread(target=start).start()
    return started


def test_a_call_that_may_be_repeated_outlasts_a_restart(tmp_path: Path) -> None:
    store, listen = tmp_path / "store", f"unix:{tmp_path / 'socket'}"
    server = start_server(store, "--listen", listen)
    with isogloss.connect(listen) as client:
        client.create_recording(sample_spec("kept"), ["a"])
        started = start_after(server, store, listen, 3.0)
        assert client.recording("kept").id == "kept"
        started[0].kill()


def test_an_awaited_call_outlasts_a_restart_too(tmp_path: Path) -> None:
    store, listen = tmp_path / "store", f"unix:{tmp_path / 'socket'}"
    server = start_server(store, "--listen", listen)

    async def ask() -> None:
        async with await isogloss.connect_async(listen) as client:
            await client.create_recording(sample_spec("kept"), ["a"])
            started = start_after(server, store, listen, 3.0)
            assert (await client.recording("kept")).id == "kept"
            started[0].kill()

    asyncio.run(ask())


def test_a_call_that_changes_something_twice_is_not_made_again(tmp_path: Path) -> None:
    store, listen = tmp_path / "store", f"unix:{tmp_path / 'socket'}"
    server = start_server(store, "--listen", listen)
    with isogloss.connect(listen) as client:
        made = client.create_recording(sample_spec("kept"), ["a"])
        server.kill()
        with pytest.raises(ServerUnavailable):
            client.delete_recording("kept", made.etag)


def test_who_never_had_an_answer_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="nobody"):
        isogloss.connect(f"unix:{tmp_path / 'nobody'}")
