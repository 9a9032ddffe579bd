"""Cut lists into pages, and make the tokens with which clients ask for the next page."""

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from isogloss.errors import InvalidInput

T = TypeVar("T")
M = TypeVar("M", bound=Message)

DEFAULT_PAGE = 50
MAX_PAGE = 1000
"""Largest page of a list; a call that asks for more gets this many."""

PAGE_BYTES = 4 << 20
"""Where a page ends, if it is not full before: with the message that brings it to so many bytes."""


def page_of(
    items: Sequence[T],
    key: Callable[[T], str],
    page_size: int,
    page_token: str,
    to_message: Callable[[T], M],
) -> tuple[list[M], str]:
    """Cut one page out of a list.

    Args:
        items: the whole list, sorted so that ``key`` grows.
        key: returns a text that names an item; the token of a page is the key of its last item.
        page_size: 0 for the default; more than the maximum is taken as the maximum.
        page_token: empty for the first page, else the token that came with the page before.
        to_message: returns an item's message; called for the items of the page alone.

    Returns:
        The messages of the page, one at least where one is left, and fewer than were asked for
        where they are large; and the token of the next page, empty after the last.

    Raises:
        InvalidInput: the size is negative, or the token is in none of our answers.
    """
    if page_size < 0:
        raise InvalidInput(f"page_size is {page_size}, wanted 0 (the default) or more")
    try:
        after = base64.b64decode(page_token.encode(), b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(
            f"page_token {page_token!r} is none of ours: pass next_page_token as it came"
        ) from error
    size = min(page_size or DEFAULT_PAGE, MAX_PAGE)
    rest = [item for item in items if key(item) > after] if after else list(items)
    page = next(by_bytes(map(to_message, rest[:size]), size), [])
    more = len(rest) > len(page)
    token = base64.urlsafe_b64encode(key(rest[len(page) - 1]).encode()).decode() if more else ""
    return page, token


def by_bytes(messages: Iterable[M], count: int, page_bytes: int = PAGE_BYTES) -> Iterator[list[M]]:
    """Yield messages in groups of at most ``count`` and about ``page_bytes``, one at least.

    No group is larger than that and its last message together.
    """
    group: list[M] = []
    size = 0
    for message in messages:
        group.append(message)
        size += message.ByteSize()
        if len(group) == count or size >= page_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group


def offset_page(total: int, page_size: int, page_token: str) -> tuple[int, int, str]:
    """Cut one page out of ``total`` numbered items.

    Returns:
        First item, number of items, and the token of the next page, empty after the last.

    Args:
        total: how many there are.
        page_size: as for :func:`page_of`.
        page_token: as for :func:`page_of`.

    Raises:
        InvalidInput: a negative size, or a token that none of our answers held.
    """
    if page_size < 0:
        raise InvalidInput(f"page_size is {page_size}, wanted 0 (the default) or more")
    if page_token and not (page_token.isascii() and page_token.isdecimal()):
        raise InvalidInput(
            f"page_token {page_token!r} is none of ours: pass next_page_token as it came"
        )
    start = min(int(page_token or "0"), total)
    count = min(page_size or DEFAULT_PAGE, MAX_PAGE, total - start)
    return start, count, str(start + count) if start + count < total else ""
