"""Plans: what to ask of a server, apart from how; run alike by blocking and awaiting clients."""

import random
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from isogloss.errors import InternalError, IsoglossError
from isogloss.service.wire.methods import Method

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
T = TypeVar("T")

RECONNECT_S = 60.0
"""How long a wait outlasts a server that is away."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Make a call and send its answer into the plan; raise its error there."""

    method: Method[Message, Message]
    """The call."""
    request: Message
    """What is sent."""
    extra_s: float = 0.0
    """Time the server may take by design, beyond the client's timeout."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, then go on."""

    seconds: float
    """How long."""


Plan: TypeAlias = Generator[Ask | Pause, Message | None, T]


def ask(
    method: Method[RequestT, ResponseT], request: RequestT, extra_s: float = 0.0
) -> Plan[ResponseT]:
    """Make one call."""
    answer = yield Ask(method, request, extra_s)
    if not isinstance(answer, method.response):
        raise InternalError(f"{method.path} was answered with a {type(answer).__name__}")
    return answer


class Running(Generic[T]):
    """A plan under way: ``step`` is what it waits for, None once it has its result."""

    def __init__(self, plan: Plan[T]) -> None:
        self._plan = plan
        self._result: tuple[T] | None = None
        self.step: Ask | Pause | None = None
        self.send(None)

    def send(self, answer: Message | None) -> None:
        """Give the plan what it waited for."""
        try:
            self.step = self._plan.send(answer)
        except StopIteration as stop:
            self.step, self._result = None, (stop.value,)

    def throw(self, error: IsoglossError) -> None:
        """Tell the plan that its call failed; what it does not handle comes out here."""
        try:
            self.step = self._plan.throw(error)
        except StopIteration as stop:
            self.step, self._result = None, (stop.value,)

    def result(self) -> T:
        """Return what the plan came to."""
        if self._result is None:
            raise InternalError("a plan was asked for its result before its end")
        return self._result[0]


class Patience:
    """How long to go on trying while a server is away."""

    def __init__(self, limit_s: float = RECONNECT_S) -> None:
        self._limit_s = limit_s
        self._since: float | None = None

    def reset(self) -> None:
        """The server answered."""
        self._since = None

    def pause_s(self, error: IsoglossError) -> float:
        """Return how long to wait before the next try; raises ``error`` when it has been enough."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > self._limit_s:
            raise error
        return random.uniform(0.2, 0.6)
