"""Producers in one asyncio process, straight on gRPC, so that many of them cost little."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import Message

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.over_grpc import channel_options
from isogloss.service.wire import framing
from isogloss.service.wire.callers import CALLER_KEY
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import method_of
from service_figures.served import parts

APPEND = method_of(pb.AppendRequest, pb.AppendResponse)
AppendCall: TypeAlias = "grpc.aio.StreamStreamCall[Framed[Message], pb.AppendResponse]"
_CHANNELS = 32
"""Connections that many streams share."""


def metadata(caller: str, token: str = "") -> tuple[tuple[str, str], ...]:
    """Return what a call of a client carries, which names itself."""
    named = ((CALLER_KEY, caller),)
    return (*named, ("authorization", f"Bearer {token}")) if token else named


@dataclass
class Stream:
    """One producer's stream."""

    producer: str
    """Its name."""
    first_s: float = 0.0
    """When it began to send, on the monotonic clock."""
    done_s: float = 0.0
    """When its last batch was durable; 0: it is not."""
    durable: int = 0
    """Its last batch that is durable."""
    part_bytes: int = 0
    """How large parts the server asks for now."""
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at each acknowledgement."""


async def take(call: AppendCall) -> pb.AppendResponse:
    """Return the next answer of a stream.

    Raises:
        EOFError: the server ended it in good order.
    """
    found = await call.read()
    if not isinstance(found, pb.AppendResponse):
        raise EOFError("the server ended the stream early")  # noqa: TRY004 - no wrong argument
    return found


async def append(
    channel: grpc.aio.Channel,
    recording: str,
    stream: Stream,
    *,
    batches: int,
    size: int,
    start: asyncio.Barrier | None = None,
) -> None:
    """Open a stream, send batches of a size within the window, and return when all are durable.

    Args:
        channel: to the server.
        recording: id of the recording.
        stream: the producer; told when its batches are durable.
        batches: how many to send.
        size: bytes of each.
        start: where streams that are open wait for the others.
    """
    make = channel.stream_stream(
        APPEND.path,
        request_serializer=framing.encode,
        response_deserializer=pb.AppendResponse.FromString,
    )
    # an attempt to connect is given 100 ms, which a busy machine may need for many at once
    call = make(metadata=metadata(f"bench-{stream.producer}"), wait_for_ready=True)
    header = pb.AppendHeader(recording=f"recordings/{recording}", producer=stream.producer)
    await call.write(Framed(head=pb.AppendRequest(header=header), payload=()))
    answer = await take(call)
    first = stream.durable = answer.durable
    stream.part_bytes = answer.part_bytes
    if start is not None:
        await start.wait()
    stream.first_s = time.monotonic()
    window = max(1, answer.window_bytes // size)
    reading = asyncio.create_task(_read(call, stream, first + batches))
    for number in range(first + 1, first + batches + 1):
        while number - stream.durable > window:
            stream.moved.clear()
            await stream.moved.wait()
            if reading.done():
                reading.result()
        for part in parts(size, stream.producer, number, stream.part_bytes):
            await call.write(part)
    await reading
    await call.done_writing()


async def _read(call: AppendCall, stream: Stream, last: int) -> None:
    try:
        while stream.durable < last:
            answer = await take(call)
            stream.durable, stream.part_bytes = answer.durable, answer.part_bytes
            stream.moved.set()
        stream.done_s = time.monotonic()
    finally:
        stream.moved.set()


@asynccontextmanager
async def channels(address: str, streams: int) -> AsyncGenerator[list[grpc.aio.Channel]]:
    """Yield connections for so many streams."""
    made = [
        grpc.aio.insecure_channel(address, channel_options(address))
        for _ in range(min(streams, _CHANNELS))
    ]
    try:
        yield made
    finally:
        for channel in made:
            await channel.close()


async def append_all(
    address: str, recording: str, streams: Sequence[Stream], *, batches: int, size: int
) -> float:
    """Open all streams, then send through all at once.

    Args:
        address: of the server.
        recording: id of the recording.
        streams: the producers.
        batches: how many each sends.
        size: bytes of each.

    Returns:
        The seconds from when all were open until everything was durable.
    """
    start = asyncio.Barrier(len(streams))
    async with channels(address, len(streams)) as made:
        await asyncio.gather(
            *(
                append(
                    *(made[n % len(made)], recording, stream),
                    batches=batches,
                    size=size,
                    start=start,
                )
                for n, stream in enumerate(streams)
            )
        )
    return max(each.done_s for each in streams) - min(each.first_s for each in streams)
