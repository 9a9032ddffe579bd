"""A call: what is asked of a server, apart from how, so that both clients make it alike.

A call is a generator. It yields one step after another, is sent what each step gave, and returns
its result. :class:`isogloss.Client` does the steps one by one in the caller's thread,
:class:`isogloss.AsyncClient` awaits them.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from inspect import isfunction, signature
from typing import Generic, ParamSpec, TypeAlias, TypeVar

from google.protobuf.message import Message

from isogloss.errors import InternalError, InvalidInput, IsoglossError
from isogloss.service.values.arguments import describe_refusal
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import Method, method_of

ResponseT = TypeVar("ResponseT", bound=Message)
ResultT = TypeVar("ResultT")
StepT = TypeVar("StepT")
T = TypeVar("T")
P = ParamSpec("P")

_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RecursionError,
    MemoryError,
    IsoglossError,
)
"""What converting an answer raises where a field of it is not what the call says."""


class UnreadableAnswerError(Exception):
    """An answer could not be converted; :class:`Running` knows which call it answers, and where."""


class _CallerError(Exception):
    """Carries what a caller's own function raised past those who look for unreadable answers."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def reading(read: Callable[[T], ResultT], answer: T) -> ResultT:
    """Convert an answer.

    Args:
        read: converts it.
        answer: what the server sent.

    Returns:
        What ``read`` returned.

    Raises:
        UnreadableAnswerError: the answer is not of the form that the call has.
    """
    try:
        return read(answer)
    except _CallerError as found:
        raise found.error from found.error.__cause__
    except _UNREADABLE as error:
        raise UnreadableAnswerError(str(error) or type(error).__name__) from error


def tell(function: Callable[[T], None], value: T) -> None:
    """Call a function of the caller within :func:`reading`; what it raises reaches the caller."""
    try:
        function(value)
    except Exception as error:
        raise _CallerError(error) from error


def asking(make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make a request, or take the first step of a call; InvalidInput where a value does not fit.

    What is called with other arguments than it has ends in Python's own TypeError.
    """
    try:
        return make(*args, **kwargs)
    except IsoglossError:
        raise
    except (ValueError, OverflowError) as error:
        raise InvalidInput(describe_refusal(error)) from error
    except (TypeError, AttributeError) as error:
        if isfunction(make):
            signature(make).bind(*args, **kwargs)
        raise InvalidInput(
            f"an argument is of another type than it can be ({error}): help(...) of the call says "
            "of which"
        ) from error


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a request; the call is sent the answer, or its error is raised there."""

    method: Method
    """The remote call."""
    request: Message
    """The message to send."""
    extra_s: float = 0.0
    """Time the server may take by design, beyond the client's timeout."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, then go on."""

    seconds: float
    """How many seconds to wait."""


@dataclass(frozen=True, slots=True)
class Open:
    """Send a request that is answered with a stream; the one opened before is closed."""

    method: Method
    """The remote call."""
    request: Message
    """The message to send."""


@dataclass(frozen=True, slots=True)
class Next:
    """Wait for the next message of the stream; the call is sent it, or None at the end."""


@dataclass(frozen=True, slots=True)
class Emit(Generic[T]):
    """Give a value to the code that iterates over the call, then go on."""

    value: T
    """The value."""


Step: TypeAlias = Ask | Pause | Open | Next
Answer: TypeAlias = Message | Framed[Message] | None
Call: TypeAlias = Generator[Step, Answer, T]
"""A call that comes to one value."""
Feed: TypeAlias = Generator[Step | Emit[T], Answer, None]
"""A call that gives values one after another."""


def ask(request: Message, response: type[ResponseT], extra_s: float = 0.0) -> Call[ResponseT]:
    """Make a remote call and return its answer.

    Args:
        request: the message to send; its type says which call it is.
        response: the type of the answer.
        extra_s: how many seconds beyond the client's timeout the server may take.

    Returns:
        The answer.

    Raises:
        InternalError: the server answered with another type of message.
    """
    method = method_of(type(request), response)
    answer = yield Ask(method, request, extra_s)
    if not isinstance(answer, response):
        raise InternalError(f"{method.path} was answered with a {type(answer).__name__}")
    return answer


def receive(
    request: Message, response: type[ResponseT], take: Callable[[Framed[ResponseT]], None]
) -> Call[None]:
    """Make a remote call that is answered with a stream of messages.

    Args:
        request: the message to send; its type says which call it is.
        response: the type of each message of the answer.
        take: called with each message as it comes. If it raises, the call ends.

    Returns:
        None, once the stream has ended without an error.
    """
    return _receive(Open(method_of(type(request), response), request), response, take)


def _receive(
    opening: Open, response: type[ResponseT], take: Callable[[Framed[ResponseT]], None]
) -> Call[None]:
    yield opening
    while (message := (yield from next_message(response))) is not None:
        reading(take, message)


def next_message(response: type[ResponseT]) -> Call[Framed[ResponseT] | None]:
    """Return the next message of the stream that is open, or None once it ended in good order."""
    found = yield Next()
    if found is None:
        return None
    if not isinstance(found, Framed) or not isinstance(found.head, response):
        raise InternalError(f"a stream of {response.__name__} held a {type(found).__name__}")
    return Framed(head=found.head, payload=found.payload)


def then(call: Call[T], change: Callable[[T], ResultT]) -> Call[ResultT]:
    """Make a call and convert its result."""
    return reading(change, (yield from call))


def collect(
    request: Callable[[str], Message],
    response: type[ResponseT],
    read: Callable[[ResponseT], tuple[Iterable[T], str]],
) -> Call[list[T]]:
    """Make a call for each page of a list and join what they hold.

    Args:
        request: returns the request for a page, given its token; empty for the first.
        response: the type of the answer.
        read: returns what a page holds, and the token of the next one; empty after the last.

    Returns:
        What all pages hold, in order.

    Raises:
        InternalError: the server gave the token of a page that was read already.
    """
    found: list[T] = []
    token, seen = "", {""}

    def page(answer: ResponseT) -> tuple[list[T], str]:
        items, following = read(answer)
        return list(items), following

    while True:
        items, token = reading(page, (yield from ask(request(token), response)))
        found += items
        if not token:
            return found
        if token in seen:
            raise InternalError(f"the server gave page token {token!r} twice: its list never ends")
        seen.add(token)


class Running(Generic[StepT, T]):
    """A call under way: ``step`` is what it waits for, None once it has its result."""

    def __init__(self, call: Generator[StepT, Answer, T], address: str) -> None:
        """Take the first step of a call.

        Args:
            call: the call.
            address: where it goes, for error messages.

        Raises:
            InvalidInput: what the caller gave does not fit the request.
        """
        self._call = call
        self._address = address
        self._path = ""
        self._result: tuple[T] | None = None
        self.step: StepT | None = None
        asking(self.send, None)

    def send(self, answer: Answer) -> None:
        """Give the call what it waited for.

        Args:
            answer: the answer.

        Raises:
            InternalError: the answer is not of the form that the call has.
        """
        try:
            self._wait_for(self._call.send(answer))
        except StopIteration as stop:
            self.step, self._result = None, (stop.value,)
        except (UnreadableAnswerError, InternalError) as error:
            raise self._unreadable(error) from error

    def throw(self, error: IsoglossError) -> None:
        """Raise an error where the call waits; what it does not handle comes out here."""
        try:
            self._wait_for(self._call.throw(error))
        except StopIteration as stop:
            self.step, self._result = None, (stop.value,)

    def _wait_for(self, step: StepT) -> None:
        self.step = step
        if isinstance(step, Ask | Open):
            self._path = step.method.path

    def _unreadable(self, error: Exception) -> InternalError:
        return InternalError(
            f"{self._address} answered {self._path or 'nothing yet'} with what cannot be read: "
            f"{error}; is it an isogloss server, of the release of this client?"
        )

    def result(self) -> T:
        """Return what the call came to."""
        if self._result is None:
            raise InternalError("a call was asked for its result before its end")
        return self._result[0]
