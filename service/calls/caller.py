"""Who makes the call that is answered: its client, as limits and turns count clients."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_CLIENT: ContextVar[str] = ContextVar("isogloss_client", default="")


def calling_client() -> str:
    """Return from where the call comes that this thread answers; empty: from this process."""
    return _CLIENT.get()


@contextmanager
def called_by(client: str) -> Generator[None]:
    """Return a context manager within which calls are answered for a client."""
    token = _CLIENT.set(client)
    try:
        yield
    finally:
        _CLIENT.reset(token)


def answer_for(client: str, answer: Callable[[T], R], request: T) -> R:
    """Answer one call of a client."""
    with called_by(client):
        return answer(request)
