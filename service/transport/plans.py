"""Plans: what to ask of a server, apart from how; run alike by blocking and awaiting clients."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from isogloss.errors import InternalError, IsoglossError
from isogloss.service.wire.methods import Method

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
T = TypeVar("T")


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
