"""What attackers do to a server, each kind for as long as it runs.

``python -m service_figures.abuses KIND UNIX TCP TOKEN JOB`` begins, says ``ready``, and ends with
its standard input, when it says how many of its calls ended with which status. A kind goes on when
it is refused: what it was refused, it asks for again.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc
import grpc.aio
import xxhash
from google.longrunning import operations_pb2 as operations
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from isogloss.proto.v1 import jobs_pb2
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.proto.v1 import universality_pb2 as un
from isogloss.service.transport.over_grpc import channel_options
from isogloss.service.wire import framing
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import Method, method_of
from service_figures.served import SITE
from service_figures.streams import APPEND, metadata

READ = method_of(pb.ReadRequest, pb.ReadResponse)
GET = method_of(pb.GetRecordingRequest, pb.Recording)
WAIT = method_of(operations.WaitOperationRequest, operations.Operation)
WATCH = method_of(jobs_pb2.WatchJobRequest, operations.Operation)
NEAREST = method_of(un.NearestFeaturesRequest, un.NearestFeaturesResponse)
PROBE = method_of(un.CreateProbeRequest, operations.Operation)

RECORDING = "attacked"
_PAUSE_S = 0.2
"""After a refusal, and between attempts of those that hold what they got."""
_SLOW_S = 5.0
"""Between the parts of a slow stream."""
_NAMES = 200_000
_ANNOUNCED = 64 << 20
_BODY = 15 << 20


@dataclass(frozen=True)
class Target:
    """Where an attacker attacks."""

    unix: str
    """Address that needs no token."""
    tcp: str
    """Address that wants one."""
    token: str
    """The right one."""
    job: str
    """Name of a job that never ends."""


Attack = Callable[[Target, grpc.aio.Channel, int], Awaitable[grpc.StatusCode]]
"""Does one thing once, and returns its status; the number tells attackers of one kind apart."""


def _hold(caller: int | str) -> tuple[tuple[str, str], ...]:
    return metadata(f"attacker-{caller}")


async def _wait(target: Target, channel: grpc.aio.Channel, number: int) -> grpc.StatusCode:
    """Wait for a job as ``result()`` does; each is a client of its own."""
    request = operations.WaitOperationRequest(name=target.job, timeout=Duration(seconds=10))
    call = channel.unary_unary(WAIT.path)
    await call(request.SerializeToString(), metadata=_hold(number))
    return grpc.StatusCode.OK


async def _repeat(target: Target, channel: grpc.aio.Channel, number: int) -> grpc.StatusCode:
    """Name one thing 200,000 times."""
    names = ["dictionaries/none"] * _NAMES
    if number % 2:
        method, request = NEAREST, un.NearestFeaturesRequest(feature=names[0], among=names)
    else:
        names = [f"recordings/{RECORDING}"] * _NAMES
        method, request = PROBE, un.CreateProbeRequest(probe_id="p", recordings=names)
    await channel.unary_unary(method.path)(request.SerializeToString(), metadata=_hold("names"))
    return grpc.StatusCode.OK


async def _take_one(
    channel: grpc.aio.Channel, method: Method, raw: bytes, caller: str
) -> grpc.StatusCode:
    """Take one message of a stream, then none for as long as the stream lives."""
    call = channel.unary_stream(method.path)(raw, metadata=_hold(caller))
    await call.read()
    return await call.code()


async def _watch(target: Target, channel: grpc.aio.Channel, number: int) -> grpc.StatusCode:
    request = jobs_pb2.WatchJobRequest(name=target.job)
    return await _take_one(channel, WATCH, request.SerializeToString(), "watches")


async def _leave_unread(target: Target, channel: grpc.aio.Channel, number: int) -> grpc.StatusCode:
    request = pb.ReadRequest(name=f"recordings/{RECORDING}", site=SITE)
    return await _take_one(channel, READ, request.SerializeToString(), "reads")


async def _opened(
    channel: grpc.aio.Channel, producer: str, caller: str
) -> "grpc.aio.StreamStreamCall[Framed[Message], bytes]":
    call = channel.stream_stream(APPEND.path, request_serializer=framing.encode)(
        metadata=_hold(caller)
    )
    header = pb.AppendHeader(recording=f"recordings/{RECORDING}", producer=producer)
    await call.write(Framed(head=pb.AppendRequest(header=header), payload=()))
    await call.read()
    return call


async def _produce_nothing(
    target: Target, channel: grpc.aio.Channel, number: int
) -> grpc.StatusCode:
    call = await _opened(channel, f"idle-{number}", "idle")
    return await call.code()


async def _produce_slowly(
    target: Target, channel: grpc.aio.Channel, number: int
) -> grpc.StatusCode:
    """Announce a batch of 64 MiB and send a little of it now and then."""
    call = await _opened(channel, f"slow-{number}", "slow")
    payload = bytes(1 << 20)
    head = pb.AppendRequest(
        sequence=1,
        parts=_ANNOUNCED // len(payload),
        batch_bytes=_ANNOUNCED,
        xxh3=xxhash.xxh3_64_intdigest(payload),
    )
    ended = asyncio.ensure_future(call.code())
    for part in range(head.parts):
        head.part = part
        await call.write(Framed(head=head, payload=(memoryview(payload),)))
        await asyncio.wait({ended}, timeout=_SLOW_S)
        if ended.done():
            break
    return await ended


async def _send_headers(target: Target, channel: grpc.aio.Channel, number: int) -> grpc.StatusCode:
    """Begin a call without token, and never send its request."""
    return await channel.stream_stream(GET.path)().code()


async def _send_bodies(target: Target, channel: grpc.aio.Channel, number: int) -> grpc.StatusCode:
    """Send 15 MiB with a wrong token."""
    call = channel.unary_unary(GET.path)
    await call(bytes(_BODY), metadata=metadata("bodies", "wrong-token"))
    return grpc.StatusCode.OK


@dataclass(frozen=True)
class Abuse:
    """One kind of attack."""

    attack: Attack
    """What is done."""
    attackers: int
    """How many do it at a time."""
    is_tcp: bool = False
    """Whether over TCP, where a token is wanted."""
    channels: int = 4
    """Connections that they share."""


ABUSES: Mapping[str, Abuse] = MappingProxyType(
    {
        "waits": Abuse(_wait, 16, channels=16),
        "repeated_names": Abuse(_repeat, 4),
        "idle_watchers": Abuse(_watch, 576),
        "idle_producers": Abuse(_produce_nothing, 576),
        "slow_streams": Abuse(_produce_slowly, 8),
        "no_token": Abuse(_send_headers, 1200, is_tcp=True),
        "wrong_token": Abuse(_send_bodies, 4, is_tcp=True),
        "unread_streams": Abuse(_leave_unread, 96, channels=16),
    }
)
"""By name; each more than the server's limit was when it was knocked over."""


async def attack(kind: str, target: Target, ended: Counter[str]) -> None:
    """Attack until cancelled; says ``ready`` once every attacker has begun.

    Args:
        kind: name of the abuse.
        target: where to.
        ended: told how each call ended.
    """
    abuse = ABUSES[kind]
    address = target.tcp if abuse.is_tcp else target.unix
    made = [
        grpc.aio.insecure_channel(address, [*channel_options(address), ("grpc.enable_retries", 0)])
        for _ in range(abuse.channels)
    ]

    async def forever(number: int) -> None:
        while True:
            try:
                code = await abuse.attack(target, made[number % len(made)], number)
                ended[code.name] += 1
            except grpc.aio.AioRpcError as error:
                ended[error.code().name] += 1
            except asyncio.InvalidStateError:  # writing to a stream that the server ended
                ended["ended by the server"] += 1
            await asyncio.sleep(_PAUSE_S)

    tasks = [asyncio.create_task(forever(number)) for number in range(abuse.attackers)]
    await asyncio.sleep(1.0)
    print("ready", flush=True)
    await asyncio.gather(*tasks)


async def _until_told(kind: str, target: Target) -> None:
    ended: Counter[str] = Counter()
    task = asyncio.create_task(attack(kind, target, ended))
    await asyncio.to_thread(sys.stdin.read)
    if task.done():
        task.result()
    print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    asyncio.run(_until_told(sys.argv[1], Target(*sys.argv[2:])))
    os._exit(0)
