"""A real server: one client's streams, watches and slow calls leave room for another client."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from google.longrunning import operations_pb2 as operations
from tests.service.serving import server_on

import isogloss
from isogloss import Client
from isogloss.errors import InvalidInput
from isogloss.proto.v1 import jobs_pb2
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.server.call_limits import CallLimits
from isogloss.service.server.job_calls import MAX_WATCHES
from isogloss.service.wire.methods import method_of
from isogloss.store import Document, RowBatch, SiteSpec
from isogloss.store.testing import sample_spec

READ = method_of(pb.ReadRequest, pb.ReadResponse)
WATCH = method_of(jobs_pb2.WatchJobRequest, operations.Operation)
ROWS, WIDTH = 4096, 2048
"""32 MiB: far more than a call that nobody reads takes from its server."""
_EOF = getattr(grpc.aio, "EOF")  # noqa: B009 - the stubs lack it


@dataclass(frozen=True)
class Served:
    """A server with a wide recording and a queued job, and a client at each of its addresses."""

    unix: str
    here: Client
    there: Client
    job: str
    store: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("fair")
    places = ("--listen", f"unix:{root / 'run' / 's'}", "--listen", "127.0.0.1:0")
    with ExitStack() as held:
        server = held.enter_context(server_on(root / "store", *places))
        unix, tcp = server.addresses
        token = (root / "store" / "token").read_text().strip()
        here = held.enter_context(isogloss.connect(unix, timeout_s=300))
        there = held.enter_context(isogloss.connect(tcp, token=token, timeout_s=300))
        spec = sample_spec("wide", sites=(SiteSpec(name="s", width=WIDTH, dtype="float32"),))
        here.create_recording(spec, ["a"])
        with here.appender("wide", "p") as appender:
            appender.write(wide_batch())
        job = here.train("wide", site="s", features=8, k=4)
        yield Served(unix, here, there, job.name, root / "store")


def wide_batch() -> RowBatch:
    document = Document.from_text("wide")
    return RowBatch(
        producer="p",
        sequence=1,
        sites={"s": np.ones((ROWS, WIDTH), np.float32)},
        token_id=np.zeros(ROWS, np.uint32),
        document=np.full(ROWS, document.id, np.uint64),
        position=np.arange(ROWS, dtype=np.uint32),
        span=np.zeros((ROWS, 2), np.uint32),
        documents=(document,),
    )


async def refused(call: "grpc.aio.UnaryStreamCall[bytes, bytes]") -> grpc.aio.AioRpcError:
    error = await end_of(call)
    assert error is not None
    return error


def test_streams_that_nobody_reads_make_room_for_another_client(served: Served) -> None:
    request = pb.ReadRequest(name="recordings/wide", site="s").SerializeToString()

    async def go() -> None:
        async with grpc.aio.insecure_channel(served.unix) as channel:
            read = channel.unary_stream(READ.path)
            calls = [read(request, timeout=120) for _ in range(CallLimits().streams)]
            for call in calls:
                assert await call.read()
            error = await refused(read(request, timeout=120))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert f"{CallLimits().streams} of them from unix" in (error.details() or "")
            found = await asyncio.to_thread(served.there.read, "wide", "s")
            assert found.shape == (ROWS, WIDTH)
            rows = await asyncio.to_thread(served.there.recording, "wide")
            assert rows.rows == ROWS
            # one of the 64 had to go; it is told why once it is read
            ended = [error for call in calls if (error := await end_of(call)) is not None]
            assert ["made room for another client" in (e.details() or "") for e in ended] == [True]
            assert ended[0].code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(go())
    assert len(served.here.read("wide", "s")) == ROWS


async def end_of(
    call: "grpc.aio.UnaryStreamCall[bytes, bytes]",
) -> grpc.aio.AioRpcError | None:
    """Read a call to its end; return its error, if it ends with one."""
    try:
        while await call.read() is not _EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    return None


def test_idle_watchers_make_room_for_another_client(served: Served) -> None:
    request = jobs_pb2.WatchJobRequest(name=f"operations/{served.job}").SerializeToString()

    async def go() -> None:
        async with grpc.aio.insecure_channel(served.unix) as channel:
            watch = channel.unary_stream(WATCH.path)
            calls = [watch(request, timeout=120) for _ in range(MAX_WATCHES)]
            for call in calls:
                assert await call.read()
            error = await refused(watch(request, timeout=120))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            first = await asyncio.to_thread(
                lambda: next(iter(served.there.job(served.job).progress()))
            )
            assert first.state == "QUEUED"
            ends = [asyncio.ensure_future(end_of(call)) for call in calls]
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            (error,) = [end.result() for end in done]
            assert error is not None
            assert "made room for another client" in (error.details() or "")
            for call in calls:
                call.cancel()

    asyncio.run(go())


def test_calls_cancelled_by_the_thousand_leave_the_server_as_it_was(served: Served) -> None:
    request = pb.ReadRequest(name="recordings/wide", site="s").SerializeToString()

    async def go() -> None:
        async with grpc.aio.insecure_channel(served.unix) as channel:
            read = channel.unary_stream(READ.path)
            for _ in range(20):
                calls = [read(request, timeout=120) for _ in range(100)]
                await asyncio.sleep(0)
                for call in calls:
                    call.cancel()

    asyncio.run(go())
    assert served.there.read("wide", "s").shape == (ROWS, WIDTH)
    assert served.here.recording("wide").rows == ROWS


def test_a_job_is_of_the_client_that_submitted_it_and_has_the_limit_that_it_asked_for(
    served: Served,
) -> None:
    with pytest.raises(InvalidInput, match="time limit of the job is -1 s"):
        served.there.train("wide", site="s", features=16, k=4, time_limit_s=-1.0)
    job = served.there.train("wide", site="s", features=16, k=4, time_limit_s=90.0)
    with closing(sqlite3.connect(served.store / "catalog.sqlite")) as catalog:
        rows = {
            name: more
            for name, *more in catalog.execute("select id, client, limit_s, memory from job")
        }
    job_client, limit_s, memory = rows[job.name]
    assert (job_client.split()[0], limit_s) == ("ipv4:127.0.0.1", 90.0)
    assert rows[served.job][0].split()[0] == "unix"
    assert memory > 100 << 20
    job.cancel()
    limits = served.here.server_info().limits
    assert (limits.jobs_waiting, limits.jobs_kept, limits.job_keep_s) == (1000, 1000, 30 * 86_400)
    assert limits.job_memory_bytes > memory
