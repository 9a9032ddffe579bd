"""Cut lists into pages, and make the tokens with which clients ask for the next page."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from isogloss.errors import InvalidInput

T = TypeVar("T")

DEFAULT_PAGE = 50
MAX_PAGE = 1000
"""Largest page of a list; a call that asks for more gets this many."""


def page_of(
    items: Sequence[T], key: Callable[[T], str], page_size: int, page_token: str
) -> tuple[list[T], str]:
    """Cut one page out of a list.

    Args:
        items: the whole list, sorted so that ``key`` grows.
        key: returns a text that names an item; the token of a page is the key of its last item.
        page_size: 0 for the default; more than the maximum is taken as the maximum.
        page_token: empty for the first page, else the token that came with the page before.

    Returns:
        The page, and the token of the next one, empty after the last.

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
    page = rest[:size]
    more = len(rest) > size
    return page, base64.urlsafe_b64encode(key(page[-1]).encode()).decode() if more else ""


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
