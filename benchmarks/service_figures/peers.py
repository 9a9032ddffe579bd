"""What the wire is measured beside: raw sockets, gRPC bare and stock, a bare file; their servers.

``python -m service_figures.peers raw|grpc|aio ADDRESS`` serves, says its address, and ends with its
standard input.
"""

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import grpc.aio
import numpy as np

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.wire.framing import MESSAGE_BYTES

BLOCK = 1 << 20
_PATH = "/stock.Stock/Append"
_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
]


def connect_raw(address: str) -> socket.socket:
    """Connect to a raw server: ``unix:/path`` or ``host:port``."""
    if address.startswith("unix:"):
        found = socket.socket(socket.AF_UNIX)
        found.connect(address.removeprefix("unix:"))
        return found
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def send_raw(address: str, block: memoryview, count: int) -> None:
    """Send a block so many times; return once the other end has read all of it."""
    with connect_raw(address) as connection:
        for _ in range(count):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1) != b"k":
            raise RuntimeError("the raw server ended early")


def serve_raw(address: str) -> tuple[socket.socket, str]:
    """Listen; return the socket and its address."""
    if address.startswith("unix:"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address.removeprefix("unix:"))
        listener.listen()
        return listener, address
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, f"127.0.0.1:{listener.getsockname()[1]}"


def answer_raw(listener: socket.socket) -> None:
    """Read each connection to its end into one buffer, and say that it was read."""
    buffer = bytearray(BLOCK)
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv_into(buffer):
                pass
            connection.sendall(b"k")


def _stock(requests: Iterator[pb.AppendRequest], context: object) -> pb.AppendResponse:
    """Read what protobuf's own code made of the messages; keep nothing."""
    return pb.AppendResponse(received=sum(len(request.payload) for request in requests))


def serve_stock(address: str) -> tuple[grpc.Server, str]:
    """Serve plain gRPC with protobuf's own code: a stream of parts, one answer."""
    server = grpc.server(ThreadPoolExecutor(4), options=_OPTIONS)
    handler = grpc.stream_unary_rpc_method_handler(
        _stock,
        request_deserializer=pb.AppendRequest.FromString,
        response_serializer=pb.AppendResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("stock.Stock", {"Append": handler})]
    )
    port = server.add_insecure_port(address)
    server.start()
    return server, address if address.startswith("unix:") else f"127.0.0.1:{port}"


def send_stock(address: str, values: np.ndarray, count: int) -> None:
    """Send an array so many times through a stock client: each time as bytes in a message."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        call = channel.stream_unary(
            _PATH,
            request_serializer=pb.AppendRequest.SerializeToString,
            response_deserializer=pb.AppendResponse.FromString,
        )
        messages = (
            pb.AppendRequest(sequence=number + 1, payload=values.tobytes())
            for number in range(count)
        )
        if call(messages).received != values.nbytes * count:
            raise RuntimeError("the stock server ended early")


class _BareHandler(grpc.GenericRpcHandler):
    """Takes the bytes of any stream and keeps nothing; an answer for each eighth message."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def take(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
            count = 0
            async for _ in requests:
                count += 1
                if count % 8 == 0:
                    yield b"taken"
            yield str(count).encode()

        return grpc.stream_stream_rpc_method_handler(take)  # type: ignore[arg-type] - of grpc.aio


async def serve_bare_grpc(address: str) -> None:
    """Serve what nothing on grpc.aio can be cheaper than, until standard input ends."""
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers([_BareHandler()])
    port = server.add_insecure_port(address)
    await server.start()
    print(address if address.startswith("unix:") else f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def _behind_some_bytes(payload: memoryview) -> bytes:
    return b"".join((bytes(40), payload))


def send_bare_grpc(address: str, block: memoryview, count: int) -> None:
    """Send a block so many times behind a few bytes, joined as our messages are."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        call = channel.stream_stream(
            "/bare.Bare/Append",
            request_serializer=_behind_some_bytes,
        )
        said = list(call(block for _ in range(count)))
        if said[-1] != str(count).encode():
            raise RuntimeError("the bare server ended early")


def write_bare(path: Path, groups: Sequence[int], *, sync: bool = True) -> float:
    """Write groups of so many bytes to a new file, each synced; return the seconds taken."""
    block = memoryview(np.random.default_rng(1).bytes(max(groups, default=1)))
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    began, offset = time.perf_counter(), 0
    try:
        for size in groups:
            offset += os.pwrite(descriptor, block[:size], offset)
            if sync:
                os.fdatasync(descriptor)
        return time.perf_counter() - began
    finally:
        os.close(descriptor)
        path.unlink()


def write_apart(directory: Path, streams: int, batches: int, size: int) -> float:
    """Write batches to a file for each stream, each synced alone; return the seconds taken."""
    block = np.random.default_rng(1).bytes(size)
    paths = [directory / f"apart-{number}" for number in range(streams)]
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    descriptors = [os.open(path, flags, 0o600) for path in paths]
    began = time.perf_counter()
    try:
        for number in range(batches):
            for descriptor in descriptors:
                os.pwrite(descriptor, block, number * size)
                os.fdatasync(descriptor)
        return time.perf_counter() - began
    finally:
        for descriptor, path in zip(descriptors, paths, strict=True):
            os.close(descriptor)
            path.unlink()


def main() -> None:
    """Serve until standard input ends."""
    kind, address = sys.argv[1:]
    if kind == "raw":
        listener, address = serve_raw(address)
        threading.Thread(target=answer_raw, args=(listener,), daemon=True).start()
    elif kind == "aio":
        asyncio.run(serve_bare_grpc(address))
        return
    else:
        stock, address = serve_stock(address)
        threading.Thread(target=stock.wait_for_termination, daemon=True).start()
    print(address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
