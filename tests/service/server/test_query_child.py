"""The query process: started at need, again when it died, ended in the end."""

import asyncio
import os
import re
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from isogloss.errors import DeadlineExceeded, ServerUnavailable
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.server.grpc_calls import Forwarded
from isogloss.service.server.query_child import QueryProcess
from isogloss.service.wire.methods import method_of
from isogloss.store import Store

METHOD = method_of(pb.ListPairsRequest, pb.ListPairsResponse)
REQUEST = pb.ListPairsRequest(parent="matches/lost").SerializeToString()


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("query") / "store"
    Store.open(root).close()
    return str(root)


def using(location: str, use: Callable[[QueryProcess], Awaitable[None]]) -> None:
    async def run() -> None:
        child = QueryProcess(location)
        try:
            await use(child)
        finally:
            await child.close()
        assert child.pid is None

    asyncio.run(run())


async def ask(child: QueryProcess) -> None:
    """Ask for what is not there: the child's own answer says so."""
    with pytest.raises(Forwarded) as caught:
        await child.forward(METHOD.path, REQUEST, 60)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert "lost" in caught.value.text


async def stopped(pid: int) -> None:
    """Stop a process, and return once all its threads stand."""
    os.kill(pid, signal.SIGSTOP)
    states: set[str] = set()
    until = time.monotonic() + 60
    while states != {"T"} and time.monotonic() < until:
        await asyncio.sleep(0.01)
        threads = Path(f"/proc/{pid}/task").glob("*/stat")
        states = {one.read_text().rpartition(")")[2].split()[0] for one in threads}
    assert states == {"T"}


def test_a_child_is_started_at_need_kept_and_replaced_when_it_died(
    location: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(child: QueryProcess) -> None:
        assert child.pid is None
        await ask(child)
        first = child.pid
        assert first is not None
        for number in (signal.SIGTERM, signal.SIGINT):  # as to all processes of a terminal
            os.kill(first, number)
        await ask(child)
        assert child.pid == first
        os.kill(first, signal.SIGKILL)
        assert child.described().restarts == 0
        await ask(child)
        assert child.pid not in (None, first)
        found = child.described()
        assert (found.pid, found.restarts, found.last_end) == (child.pid, 1, "killed by SIGKILL")

    using(location, use)
    (said,) = [record.getMessage() for record in caplog.records if "query" in record.name]
    assert re.fullmatch(
        r"the query process \d+ is gone: killed by SIGKILL; the next question starts another", said
    )


def test_a_death_is_logged_when_it_comes_and_an_end_in_good_order_is_not(
    location: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(child: QueryProcess) -> None:
        await ask(child)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGSEGV)
        while "is gone" not in caplog.text:  # nobody asks meanwhile
            await asyncio.sleep(0.02)
        assert f"the query process {first} is gone: killed by SIGSEGV" in caplog.text
        caplog.clear()
        await ask(child)

    using(location, use)
    assert "is gone" not in caplog.text


def test_a_start_goes_on_when_who_asked_has_no_time_left(location: str) -> None:
    async def use(child: QueryProcess) -> None:
        for timeout_s in (0.0, 0.01, 0.1):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(timeout_s):  # as the end of a call cancels it
                    await child.forward(METHOD.path, REQUEST, timeout_s)
            if child.pid is not None:
                break
        while (first := child.pid) is None:
            await asyncio.sleep(0.01)
        await asyncio.gather(*(ask(child) for _ in range(3)))
        assert child.pid == first, "another one was started beside it"
        assert child.described().restarts == 0

    using(location, use)


def test_a_call_for_which_it_was_started_is_told_so_in_time_and_the_next_is_answered(
    location: str,
) -> None:
    async def use(child: QueryProcess) -> None:
        with pytest.raises(DeadlineExceeded, match=r"had not answered after 0\.15 s.*call again"):
            await child.forward(METHOD.path, REQUEST, 0.15)
        await ask(child)
        pid = child.pid
        assert pid is not None
        await stopped(pid)  # else it may answer sooner than any deadline
        try:
            with pytest.raises(Forwarded) as caught:  # its own deadline, once it has answered
                await child.forward(METHOD.path, REQUEST, 0.15)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED, caught.value

    using(location, use)


def test_a_child_that_cannot_start_is_said_with_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()

    async def use(child: QueryProcess) -> None:
        (directory,) = tmp_path.glob("isogloss-*")
        assert directory.stat().st_mode & 0o777 == 0o700
        with pytest.raises(ServerUnavailable, match=r"did not start \(exit code 1\)"):
            await child.forward(METHOD.path, REQUEST, 60)
        assert child.pid is None
        for _ in range(2):
            with pytest.raises(ServerUnavailable, match="did not start"):
                await child.forward(METHOD.path, REQUEST, 60)
        with pytest.raises(ServerUnavailable, match=r"ended 3 times in a row.*in [0-9.]+ s: ask"):
            await child.forward(METHOD.path, REQUEST, 60)  # starts none
        found = child.described()
        assert (found.pid, found.restarts, found.last_end) == (0, 3, "ended with exit code 1")

    using(str(tmp_path / "file"), use)
    assert list(tmp_path.glob("isogloss-*")) == []


def test_pauses_between_children_double_from_half_a_second_to_five(location: str) -> None:
    class Ended:
        returncode, pid = -9, 1

    child = QueryProcess(location)
    pauses: list[float] = []
    for _ in range(9):
        child._process = Ended()  # type: ignore[assignment]
        child._born_s = time.monotonic()
        child._count_death()
        pauses.append(max(0.0, child._not_before_s - time.monotonic()))
    assert pauses == pytest.approx([0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0], abs=0.2)
    child._process = Ended()  # type: ignore[assignment]
    child._born_s = time.monotonic() - 61
    child._count_death()
    assert child._not_before_s <= time.monotonic(), "it was well for a minute: counted anew"
    asyncio.run(child.close())
