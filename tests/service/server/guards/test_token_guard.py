"""The guard in front of a real grpc server: which tokens it takes, and when it looks."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest
from tests.service.server.guards.guarded import HEALTH, STREAM, UNARY, guarded

from isogloss.service.server.guards.token_guard import TokenGuard

TOKEN = "0123456789abcdef-token"
CALLS = 64


def _guard() -> TokenGuard:
    return TokenGuard(TOKEN, lambda: b"well", CALLS)


async def _answers(path: str, metadata: tuple[tuple[str, str], ...]) -> str:
    """Call a guarded server; return the name of the status with which the call ended."""
    async with guarded(_guard()) as channel:
        try:
            if path == STREAM:
                found = [m async for m in channel.unary_stream(path)(b"x", metadata=metadata)]
                assert found == [b"x", b"x"]
            else:
                assert await channel.unary_unary(path)(b"x", metadata=metadata) == b"x"
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@pytest.mark.parametrize("path", [UNARY, STREAM])
@pytest.mark.parametrize(
    "metadata",
    [
        (),
        bearer(""),
        bearer(TOKEN[:-1]),
        bearer(TOKEN[:1]),
        bearer(TOKEN[1:]),
        bearer(TOKEN + "x"),
        bearer(TOKEN.upper()),
        (("authorization", "Bearer"),),
        (("authorization", TOKEN),),
        (("authorization", f"Basic {TOKEN}"),),
        (*bearer("wrong"), *bearer(TOKEN)),
        (*bearer(TOKEN), *bearer("wrong")),
        (*bearer(TOKEN), *bearer(TOKEN)),
    ],
    ids=repr,
)
def test_over_tcp_only_the_whole_token_is_taken(
    path: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    assert asyncio.run(_answers(path, metadata)) == "UNAUTHENTICATED"


@pytest.mark.parametrize("path", [UNARY, STREAM])
def test_over_tcp_the_token_lets_calls_through(path: str) -> None:
    assert asyncio.run(_answers(path, bearer(TOKEN))) == "OK"


@pytest.mark.parametrize("path", [UNARY, STREAM])
@pytest.mark.parametrize("metadata", [(), bearer("wrong")], ids=repr)
def test_a_call_without_the_token_ends_before_it_sent_anything(
    path: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    async def held() -> grpc.StatusCode:
        async with guarded(_guard()) as channel:
            # a client that opens the call and never sends its request
            call = channel.stream_stream(path)(metadata=metadata, timeout=60)
            return await call.code()

    assert asyncio.run(held()) is grpc.StatusCode.UNAUTHENTICATED


def test_whoever_asks_is_told_whether_the_server_is_well_and_nothing_is_read_of_them() -> None:
    async def asked() -> tuple[bytes, object, grpc.StatusCode]:
        async with guarded(_guard()) as channel:
            check = channel.unary_unary(HEALTH)
            without = await check(b"x" * 3_000_000)
            held = channel.stream_stream(HEALTH)(timeout=60)  # never sends its request
            first = await held.read()
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
            return without, first, await watch.code()

    assert asyncio.run(asked()) == (b"well", b"well", grpc.StatusCode.UNAUTHENTICATED)


def _without_token(path: str) -> Callable[[grpc.aio.Channel], Awaitable[None]]:
    async def call(channel: grpc.aio.Channel) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await channel.unary_unary(path)(b"x", timeout=60)

    return call


@pytest.mark.parametrize("path", [UNARY, HEALTH])
def test_who_calls_without_the_token_again_and_again_is_answered_at_a_pace(path: str) -> None:
    async def go() -> None:
        loop, ended = asyncio.get_running_loop(), 0
        call = _without_token(path)

        async def again(channel: grpc.aio.Channel) -> None:
            nonlocal ended
            while True:
                await call(channel)
                ended += 1

        async with guarded(_guard()) as channel:
            began = loop.time()
            callers = [asyncio.create_task(again(channel)) for _ in range(CALLS)]
            for _ in range(20):  # who has the token waits for none of them
                await channel.unary_unary(UNARY)(b"x", metadata=bearer(TOKEN), timeout=60)
            seconds = loop.time() - began
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
        assert ended <= 4 * (seconds / 0.01 + 2)

    asyncio.run(go())


def test_when_the_server_ends_nobody_waits_to_be_refused() -> None:
    async def go() -> list[str]:
        guard = TokenGuard(TOKEN, lambda: b"well", CALLS)
        async with guarded(guard) as channel:
            calls = [channel.stream_stream(UNARY)(timeout=60) for _ in range(CALLS)]
            await calls[0].code()
            guard.end()
            return [(await call.code()).name for call in calls]

    assert asyncio.run(go()) == ["UNAUTHENTICATED"] * CALLS
