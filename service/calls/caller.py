"""Whose call is answered, as limits and turns count clients, and how large its messages may be."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

BLOCK_BYTES = 1 << 20
"""Of each message of a stream, where nothing else presses."""

_CLIENT: ContextVar[str] = ContextVar("isogloss_client", default="")
_BLOCK: ContextVar[int] = ContextVar("isogloss_block", default=BLOCK_BYTES)


def calling_client() -> str:
    """Return from where the call comes that this thread answers; empty: from this process."""
    return _CLIENT.get()


def block_bytes() -> int:
    """Return of about how many bytes the next message of the stream should be that is answered."""
    return _BLOCK.get()


@contextmanager
def called_by(client: str, block: int = BLOCK_BYTES) -> Generator[None]:
    """Return a context manager within which calls are answered for a client.

    Args:
        client: from where the call comes.
        block: bytes of the next message of a stream.

    Yields:
        Nothing.
    """
    tokens = _CLIENT.set(client), _BLOCK.set(block)
    try:
        yield
    finally:
        _CLIENT.reset(tokens[0])
        _BLOCK.reset(tokens[1])


def answer_for(client: str, answer: Callable[[T], R], request: T) -> R:
    """Answer one call of a client."""
    with called_by(client):
        return answer(request)
