"""What answers a call: a table from the call's path to a function over messages."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from isogloss.errors import InternalError
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import Method

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Unary:
    """Answers one call with one message."""

    method: Method[Message, Message]
    """The call."""
    answer: Callable[[Message], Message]
    """Takes the request; raises only errors of ours, or what is a defect."""
    check: Callable[[Message], Message] | None = None
    """Called before ``answer``, which gets what it returns: refuses a request, or completes it. It
    may load torch: a server has its query process call it. None: nothing to check."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """Answers one call with a stream of messages."""

    method: Method[Message, Message]
    """The call."""
    answer: Callable[[Message], Iterator[Framed[Message]]]
    """Takes the request; closing the iterator ends the work."""


def unary(
    method: Method[RequestT, ResponseT],
    answer: Callable[[RequestT], ResponseT],
    check: Callable[[RequestT], RequestT] | None = None,
) -> Unary:
    """Bind functions to a call, checking the request's type as it comes."""

    def answered(request: Message) -> Message:
        return answer(_of_type(method.request, request))

    if check is None:
        return Unary(method, answered)

    def checked(request: Message) -> Message:
        return check(_of_type(method.request, request))

    return Unary(method, answered, checked)


def streaming(
    method: Method[RequestT, ResponseT],
    answer: Callable[[RequestT], Iterator[Framed[ResponseT]]],
) -> Streaming:
    """Bind a generator to a call, checking the request's type as it comes."""

    def checked(request: Message) -> Iterator[Framed[Message]]:
        return answer(_of_type(method.request, request))

    return Streaming(method, checked)


def _of_type(kind: type[RequestT], request: Message) -> RequestT:
    if not isinstance(request, kind):
        raise InternalError(f"a handler for {kind.__name__} was given {type(request).__name__}")
    return request
