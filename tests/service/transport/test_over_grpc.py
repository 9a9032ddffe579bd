"""Calls over a channel, against a small server of stock grpc in this process."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import NoReturn

import grpc
import pytest
from tests.service.faults.proxy import Proxy
from tests.service.serving import server_on

import isogloss
from isogloss.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    ServerUnavailable,
)
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.over_grpc import (
    MESSAGE_BYTES,
    AsyncGrpcTransport,
    GrpcTransport,
    channel_options,
)
from isogloss.service.wire import framing
from isogloss.service.wire.errors import DETAILS_KEY, to_status
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import METHODS, method_of
from isogloss.store.testing import sample_batch, sample_spec

STORAGE = method_of(pb.GetStorageRequest, pb.Storage)
GET = method_of(pb.GetRecordingRequest, pb.Recording)
READ = method_of(pb.ReadRequest, pb.ReadResponse)
APPEND = method_of(pb.AppendRequest, pb.AppendResponse)


def _storage(request: pb.GetStorageRequest, context: grpc.ServicerContext) -> pb.Storage:
    """Say which token came, and whether the call has a deadline."""
    found = {str(item[0]): str(item[1]) for item in context.invocation_metadata()}
    return pb.Storage(
        root=found.get("authorization", "no token"),
        proof_file="in time" if context.time_remaining() <= 120 else "late",
    )


def _abort(context: grpc.ServicerContext, says: str) -> NoReturn:
    """End a call as our servers do."""
    status = to_status(NotFound(says))
    context.set_trailing_metadata(((DETAILS_KEY, status.SerializeToString()),))
    context.abort(grpc.StatusCode.NOT_FOUND, says)
    raise AssertionError


def _refuse(request: pb.GetRecordingRequest, context: grpc.ServicerContext) -> pb.Recording:
    _abort(context, f"{request.name} is lost")


def _read(request: pb.ReadRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
    for start in range(3):
        head = pb.ReadResponse(start=start)
        yield framing.encode(Framed(head=head, payload=()))
    if request.site == "lost":
        _abort(context, "lost on the way")


async def _begun(log: list[str], count: int) -> None:
    async with asyncio.timeout(60):
        while len(log) < count:
            await asyncio.sleep(0.01)


def test_closing_ends_calls_of_other_tasks_with_an_error_and_no_cancellation() -> None:
    began: list[str] = []
    let_go = Event()

    def hang(request: object, context: grpc.ServicerContext) -> pb.Storage:
        began.append("unary")
        let_go.wait(60)
        return pb.Storage()

    def hang_on(request: object, context: grpc.ServicerContext) -> Iterator[bytes]:
        began.append("stream")
        let_go.wait(60)
        yield from ()

    async def use(address: str) -> None:
        transport = AsyncGrpcTransport(address)
        unary = asyncio.create_task(transport.unary(STORAGE, pb.GetStorageRequest(), 60))
        stream = asyncio.create_task(anext(transport.stream(READ, pb.ReadRequest()), None))
        stopped = asyncio.create_task(transport.unary(STORAGE, pb.GetStorageRequest(), 60))
        await _begun(began, 3)
        stopped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopped
        await transport.close()
        for task in (unary, stream):
            with pytest.raises(Conflict, match="closed"):
                await task

    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "GetStorage": grpc.unary_unary_rpc_method_handler(
            hang, pb.GetStorageRequest.FromString, pb.Storage.SerializeToString
        ),
        "Read": grpc.unary_stream_rpc_method_handler(hang_on, pb.ReadRequest.FromString),
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(STORAGE.service, handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        asyncio.run(use(f"127.0.0.1:{port}"))
    finally:
        let_go.set()
        server.stop(None).wait()


def _append(parts: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[pb.AppendResponse]:
    """Acknowledge each part by its payload, in the end all of them."""
    total = 0
    for number, raw in enumerate(parts):
        part = framing.decode(pb.AppendRequest, raw)
        total += sum(piece.nbytes for piece in part.payload)
        if number == 0 and part.head.header.producer == "refused":
            _abort(context, "no such recording")
        yield pb.AppendResponse(received=part.head.sequence, part_bytes=part.head.part)
    yield pb.AppendResponse(window_bytes=total)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "GetStorage": grpc.unary_unary_rpc_method_handler(
            _storage, pb.GetStorageRequest.FromString, pb.Storage.SerializeToString
        ),
        "GetRecording": grpc.unary_unary_rpc_method_handler(
            _refuse, pb.GetRecordingRequest.FromString, pb.Recording.SerializeToString
        ),
        "Read": grpc.unary_stream_rpc_method_handler(_read, pb.ReadRequest.FromString),
        "Append": grpc.stream_stream_rpc_method_handler(
            _append, None, pb.AppendResponse.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(STORAGE.service, handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_call_carries_its_token_and_deadline(address: str) -> None:
    for token, said in ((None, "no token"), ("t1", "Bearer t1"), ("", "no token")):
        transport = GrpcTransport(address, token=token)
        answer = transport.unary(STORAGE, pb.GetStorageRequest(), 60)
        assert answer == pb.Storage(root=said, proof_file="in time")
        assert transport.address == address
        transport.close()


def test_errors_are_ours_and_a_stream_gives_what_came_before(address: str) -> None:
    transport = GrpcTransport(address)
    with pytest.raises(NotFound, match="recordings/a is lost"):
        transport.unary(GET, pb.GetRecordingRequest(name="recordings/a"), 60)
    with pytest.raises(DeadlineExceeded, match="no time is left"):
        transport.unary(STORAGE, pb.GetStorageRequest(), 0)
    starts = [answer.head for answer in transport.stream(READ, pb.ReadRequest())]
    assert starts == [pb.ReadResponse(start=start) for start in range(3)]
    failing = transport.stream(READ, pb.ReadRequest(site="lost"))
    assert [next(failing).head for _ in range(3)] == starts
    with pytest.raises(NotFound, match="lost on the way"):
        next(failing)
    transport.close()
    for call in (
        lambda: transport.unary(STORAGE, pb.GetStorageRequest(), 60),
        lambda: next(transport.stream(READ, pb.ReadRequest())),
        lambda: transport.append(pb.AppendHeader()),
    ):
        with pytest.raises(Conflict, match=r"this client was closed .*: connect again"):
            call()


def test_the_asynchronous_transport_does_the_same(address: str) -> None:
    async def use() -> None:
        transport = AsyncGrpcTransport(address, token="t2")
        assert transport.address == address
        answer = await transport.unary(STORAGE, pb.GetStorageRequest(), 60)
        assert answer == pb.Storage(root="Bearer t2", proof_file="in time")
        with pytest.raises(NotFound, match="recordings/a is lost"):
            await transport.unary(GET, pb.GetRecordingRequest(name="recordings/a"), 60)
        with pytest.raises(DeadlineExceeded):
            await transport.unary(STORAGE, pb.GetStorageRequest(), 0)
        heads = [answer.head async for answer in transport.stream(READ, pb.ReadRequest())]
        assert heads == [pb.ReadResponse(start=start) for start in range(3)]
        with pytest.raises(NotFound, match="on the way"):
            async for _ in transport.stream(READ, pb.ReadRequest(site="lost")):
                pass
        blocking = transport.blocking
        assert transport.blocking is blocking
        assert blocking.unary(STORAGE, pb.GetStorageRequest(), 60) == answer
        await transport.close()
        with pytest.raises(Conflict, match="connect again"):
            blocking.unary(STORAGE, pb.GetStorageRequest(), 60)
        with pytest.raises(Conflict, match="connect again"):
            await transport.unary(STORAGE, pb.GetStorageRequest(), 60)

    asyncio.run(use())


def test_a_batch_goes_in_parts_behind_the_header(address: str) -> None:
    transport = GrpcTransport(address)
    stream = transport.append(pb.AppendHeader(recording="recordings/a", producer="p"))
    outgoing = transport.outgoing(sample_batch(sample_spec(), "p", 7, rows=5))
    step = -(-outgoing.size // 5)
    stream.send(outgoing, step)
    said = [stream.receive() for _ in range(6)]
    assert said == [
        pb.AppendResponse(),
        *(pb.AppendResponse(received=7, part_bytes=part) for part in range(5)),
    ]
    stream.half_close()
    assert stream.receive() == pb.AppendResponse(window_bytes=outgoing.size)
    assert stream.receive() is None
    with pytest.raises(ServerUnavailable, match=f"{address}: the stream ended; open it again"):
        stream.send(outgoing, step)
    refused = transport.append(pb.AppendHeader(producer="refused"))
    with pytest.raises(NotFound, match="no such recording"):
        refused.receive()
    closed = transport.append(pb.AppendHeader(producer="p"))
    closed.close()
    with pytest.raises(ServerUnavailable):
        closed.send(outgoing, step)
    transport.close()


def test_only_calls_that_may_be_repeated_are_sent_again() -> None:
    options = dict(channel_options("unix:/s"))
    assert options["grpc.max_receive_message_length"] == MESSAGE_BYTES
    assert options["grpc.max_send_message_length"] == MESSAGE_BYTES
    assert (options["grpc.keepalive_time_ms"], options["grpc.keepalive_timeout_ms"]) == (
        30_000,
        10_000,
    )
    (config,) = json.loads(str(options["grpc.service_config"]))["methodConfig"]
    named = {f"/{name['service']}/{name['method']}" for name in config["name"]}
    assert named == {path for path, m in METHODS.items() if m.is_repeatable and not m.gives_stream}
    assert GET.path in named
    assert not {READ.path, APPEND.path} & named
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_a_server_that_is_away_is_asked_again_after_pauses_that_double() -> None:
    came: list[float] = []

    def answer(request: pb.GetStorageRequest, context: grpc.ServicerContext) -> pb.Storage:
        came.append(time.monotonic())
        if len(came) < 4:
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return pb.Storage(root="back")

    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(
        answer, pb.GetStorageRequest.FromString, pb.Storage.SerializeToString
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(STORAGE.service, {"GetStorage": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    transport = GrpcTransport(f"127.0.0.1:{port}")
    try:
        answer_at_last = transport.unary(STORAGE, pb.GetStorageRequest(), 120.0)
    finally:
        transport.close()
        server.stop(None).wait()
    assert answer_at_last == pb.Storage(root="back")
    pauses = [later - earlier for earlier, later in itertools.pairwise(came)]
    # 0.1, 0.2 and 0.4 s, each by chance up to a fifth shorter or longer
    assert all(pause >= 0.7 * least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True))


@pytest.mark.parametrize(
    ("token", "place"),
    [
        ("0123456789abcdef\n", 16),
        ("0123\n456789abcdef", 4),
        ("\t123456789abcdef", 0),
        ("0123456789abcdef ", 16),
        ("0123456789abcd\x00", 14),
        ("0123456789abcdé", 14),
        ("\x7f", 0),
    ],
)
def test_a_token_that_no_call_can_carry_is_refused_by_name_and_not_shown(
    token: str, place: int
) -> None:
    with pytest.raises(InvalidInput, match=f"at place {place} of {len(token)}") as caught:
        GrpcTransport("127.0.0.1:1", token=token)
    assert repr(token[place]) in str(caught.value)
    assert "0123" not in str(caught.value)

    async def asynchronous() -> None:
        with pytest.raises(InvalidInput, match="wanted printable ASCII"):
            AsyncGrpcTransport("127.0.0.1:1", token=token)

    asyncio.run(asynchronous())


def test_a_token_may_have_spaces_within(tmp_path: Path) -> None:
    GrpcTransport(f"unix:{tmp_path}/s", token="correct horse battery").close()


def test_a_connection_may_take_its_time(tmp_path: Path) -> None:
    with server_on(tmp_path / "store", "--listen", "127.0.0.1:0") as server:
        host, _, port = server.addresses[0].rpartition(":")
        proxy = Proxy((host, int(port)))
        proxy.delay_s = 0.3  # each attempt was given 100 ms, which many at once need
        token = (tmp_path / "store" / "token").read_text().strip()
        try:
            with isogloss.connect(f"127.0.0.1:{proxy.port}", token=token) as client:
                assert client.server_info().version == isogloss.__version__
        finally:
            proxy.close()
