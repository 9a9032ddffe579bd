"""Which function answers which call: the one whose name is the call's, in snake case.

A *topic* is an object whose public methods each answer one call: ``get_recording`` answers
``GetRecording``. Nothing else is registered anywhere. A method named ``check_create_recording``
takes the request of ``CreateRecording`` before its handler does, and returns it, completed or as it
came, or refuses it; it may stand in another topic, and so in another process, than the handler.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast, get_type_hints

from google.protobuf.message import Message

from isogloss.errors import InternalError
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import METHODS, Method, method_named

_CHECK = "check_"


@dataclass(frozen=True, slots=True)
class Unary:
    """Answers one call with one message."""

    method: Method
    """The call."""
    answer: Callable[[Message], Message]
    """Takes the request; raises only errors of ours, or what is a defect."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """Answers one call with a stream of messages."""

    method: Method
    """The call."""
    answer: Callable[[Message], Iterator[Framed[Message]]]
    """Takes the request; closing the iterator ends the work."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The calls that some topics answer, by path."""

    unary: dict[str, Unary]
    """Calls with one answer."""
    streaming: dict[str, Streaming]
    """Calls with a stream of answers."""
    checks: dict[str, Unary]
    """Checks of calls that these topics do not answer; each gives the request itself back."""

    @property
    def paths(self) -> frozenset[str]:
        """Paths of all that are answered."""
        return frozenset(self.unary) | frozenset(self.streaming)


def methods_of(topic: type) -> list[Method]:
    """Return the calls that a topic answers, one for each of its public methods.

    Args:
        topic: the class.

    Returns:
        The calls, in the order in which the methods are written.

    Raises:
        InternalError: a method has the name of no call, or takes or gives other messages.
    """
    return [
        _method(topic, name, name, is_check=False)
        for name in _public(topic)
        if not name.startswith(_CHECK)
    ]


def checks_of(topic: type) -> list[Method]:
    """Return the calls whose requests a topic checks; errors as for :func:`methods_of`."""
    return [
        _method(topic, name, name.removeprefix(_CHECK), is_check=True)
        for name in _public(topic)
        if name.startswith(_CHECK)
    ]


def _public(topic: type) -> list[str]:
    found = vars(topic).items()
    return [name for name, value in found if callable(value) and not name.startswith("_")]


def _method(topic: type, name: str, call: str, *, is_check: bool) -> Method:
    """Return the call that a method of a topic is about, once its types were compared."""
    method = method_named(call)
    if method is None or method.takes_stream or (is_check and method.gives_stream):
        raise InternalError(
            f"{topic.__name__}.{name} answers no call: give it the name of one in snake case, or "
            "begin it with an underscore"
        )
    gives: object = method.request if is_check else method.response
    if method.gives_stream:
        gives = Iterator[Framed[method.response]]
    hints = get_type_hints(getattr(topic, name))
    if hints != {"request": method.request, "return": gives}:
        raise InternalError(
            f"{topic.__name__}.{name} has the types {hints}, wanted request: "
            f"{method.request.__name__} and {gives}"
        )
    return method


def bind(*topics: object) -> Bound:
    """Return the calls that topics answer; those that one of them checks are checked first.

    Args:
        *topics: objects, of one class each.

    Returns:
        What answers each call.

    Raises:
        InternalError: two topics answer one call, or see :func:`methods_of`.
    """
    bound = Bound({}, {}, {})
    for topic in topics:
        for method in methods_of(type(topic)):
            if method.path in bound.paths:
                raise InternalError(f"{method.path} has two handlers: remove one")
            answer: object = getattr(topic, method.function_name)
            # the types were compared with the call's in methods_of
            if method.gives_stream:
                stream = cast("Callable[[Message], Iterator[Framed[Message]]]", answer)
                bound.streaming[method.path] = Streaming(method, stream)
            else:
                single = cast("Callable[[Message], Message]", answer)
                bound.unary[method.path] = Unary(method, single)
        for method in checks_of(type(topic)):
            found: object = getattr(topic, _CHECK + method.function_name)
            bound.checks[method.path] = Unary(method, cast("Callable[[Message], Message]", found))
    for path in bound.checks.keys() & bound.unary.keys():
        bound.unary[path] = _checked(bound.checks.pop(path), bound.unary[path])
    return bound


def _checked(check: Unary, handler: Unary) -> Unary:
    return Unary(handler.method, lambda request: handler.answer(check.answer(request)))


def check_complete(answered: frozenset[str]) -> None:
    """Raise InternalError while a call has no handler, so that the server does not start.

    Args:
        answered: paths of the calls that have a handler in any process.

    Raises:
        InternalError: a call has no handler. Append needs none: it has its own protocol.
    """
    wanted = {path for path, method in METHODS.items() if not method.takes_stream}
    if missing := sorted(wanted - answered):
        raise InternalError(f"no handler answers {', '.join(missing)}")
