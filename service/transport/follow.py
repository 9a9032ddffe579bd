"""Calls that answer with a stream and come to one value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from isogloss.errors import InternalError
from isogloss.service.wire.methods import Method

T = TypeVar("T")
RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Following(Generic[T]):
    """A streaming call, for both clients: a client gives it the answers and asks for the value."""

    method: Method[Message, Message]
    """The call."""
    request: Message
    """What is sent."""
    take: Callable[[Message], None]
    """Given each answer as it comes; what it raises ends the call."""
    result: Callable[[], T]
    """Asked once the stream ended in good order."""


def follow(
    method: Method[RequestT, ResponseT],
    request: RequestT,
    take: Callable[[ResponseT], None],
    result: Callable[[], T],
) -> Following[T]:
    """Describe a streaming call, checking the answers' type as they come."""

    def checked(answer: Message) -> None:
        if not isinstance(answer, method.response):
            raise InternalError(f"{method.path} was answered with a {type(answer).__name__}")
        take(answer)

    return Following(method, request, checked, result)
