"""Doing the steps of a call over a transport: in the caller's thread, or awaited."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import TypeVar

from google.protobuf.message import Message

from isogloss.errors import IsoglossError
from isogloss.service.transport.call import (
    Answer,
    Ask,
    Call,
    Emit,
    Feed,
    Next,
    Open,
    Pause,
    Running,
    Step,
)
from isogloss.service.transport.protocols import AsyncTransport, Transport
from isogloss.service.wire.framing import Framed

StepT = TypeVar("StepT")
T = TypeVar("T")


def run(transport: Transport, call: Call[T], timeout_s: float) -> T:
    """Do all steps of a call and return its result.

    Args:
        transport: sends the calls to the store's owner.
        call: the call.
        timeout_s: how many seconds each answer may take; messages of a stream may take any time.

    Returns:
        The call's result.
    """
    running, steps = Running(call, transport.address), _Steps(transport, timeout_s)
    try:
        while (step := running.step) is not None:
            _advance(running, step, steps)
    finally:
        steps.close()
    return running.result()


def iterate(transport: Transport, feed: Feed[T], timeout_s: float) -> Iterator[T]:
    """Yield what a call gives, one value after another; arguments as for :func:`run`."""
    running, steps = Running(feed, transport.address), _Steps(transport, timeout_s)
    try:
        while (step := running.step) is not None:
            if isinstance(step, Emit):
                yield step.value
                running.send(None)
            else:
                _advance(running, step, steps)
    finally:
        steps.close()


def _advance(running: Running[StepT, T], step: Step, steps: "_Steps") -> None:
    try:
        answer = steps.take(step)
    except IsoglossError as error:
        running.throw(error)
    else:
        running.send(answer)


class _Steps:
    """Does steps with blocking calls, and holds the stream that is open."""

    def __init__(self, transport: Transport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._stream: Generator[Framed[Message]] | None = None

    def take(self, step: Step) -> Answer:
        match step:
            case Ask():
                timeout_s = self._timeout_s + step.extra_s
                return self._transport.unary(step.method, step.request, timeout_s)
            case Pause():
                time.sleep(step.seconds)
            case Open():
                self.close()
                self._stream = self._transport.stream(step.method, step.request)
            case Next():
                return None if self._stream is None else next(self._stream, None)
        return None

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


async def run_async(transport: AsyncTransport, call: Call[T], timeout_s: float) -> T:
    """Await all steps of a call; arguments as for :func:`run`."""
    running, steps = Running(call, transport.address), _AsyncSteps(transport, timeout_s)
    try:
        while (step := running.step) is not None:
            await _advance_async(running, step, steps)
    finally:
        await steps.close()
    return running.result()


async def iterate_async(
    transport: AsyncTransport, feed: Feed[T], timeout_s: float
) -> AsyncIterator[T]:
    """Yield what a call gives, one value after another; arguments as for :func:`run`."""
    running, steps = Running(feed, transport.address), _AsyncSteps(transport, timeout_s)
    try:
        while (step := running.step) is not None:
            if isinstance(step, Emit):
                yield step.value
                running.send(None)
            else:
                await _advance_async(running, step, steps)
    finally:
        await steps.close()


async def _advance_async(running: Running[StepT, T], step: Step, steps: "_AsyncSteps") -> None:
    try:
        answer = await steps.take(step)
    except IsoglossError as error:
        running.throw(error)
    else:
        running.send(answer)


class _AsyncSteps:
    """Does steps with awaited calls, and holds the stream that is open."""

    def __init__(self, transport: AsyncTransport, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._stream: AsyncGenerator[Framed[Message]] | None = None

    async def take(self, step: Step) -> Answer:
        match step:
            case Ask():
                timeout_s = self._timeout_s + step.extra_s
                return await self._transport.unary(step.method, step.request, timeout_s)
            case Pause():
                await asyncio.sleep(step.seconds)
            case Open():
                await self.close()
                self._stream = self._transport.stream(step.method, step.request)
            case Next():
                return None if self._stream is None else await anext(self._stream, None)
        return None

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None
