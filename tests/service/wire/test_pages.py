import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import InvalidInput
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.wire.pages import PAGE_BYTES, by_bytes, offset_page, page_of


def _named(name: str) -> pb.Recording:
    return pb.Recording(name=name)


@given(st.sets(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)), st.integers(1, 5))
def test_pages_put_together_are_the_list(ids: set[str], size: int) -> None:
    items = sorted(ids)
    found: list[str] = []
    token = ""
    while True:
        page, token = page_of(items, str, size, token, _named)
        assert len(page) <= size
        found += [message.name for message in page]
        if not token:
            break
    assert found == items


@given(st.integers(0, 40), st.integers(1, 9))
def test_pages_by_number_cover_everything_once(total: int, size: int) -> None:
    seen: list[int] = []
    token = ""
    while True:
        start, count, token = offset_page(total, size, token)
        seen += range(start, start + count)
        if not token:
            break
    assert seen == list(range(total))


def test_page_requests_that_make_no_sense_are_refused() -> None:
    for size, token in ((-1, ""), (1, "!"), (1, "ü")):
        with pytest.raises(InvalidInput, match="page_"):
            page_of(["a"], str, size, token, _named)
        with pytest.raises(InvalidInput, match="page_"):
            offset_page(3, size, token)


@given(st.lists(st.integers(0, 3 * PAGE_BYTES // 2), max_size=12), st.integers(1, 5))
def test_groups_end_by_number_or_by_bytes_and_hold_everything_once(
    sizes: list[int], count: int
) -> None:
    messages = [pb.Document(key=bytes(size)) for size in sizes]
    groups = list(by_bytes(messages, count))
    assert [message for group in groups for message in group] == messages
    for group in groups:
        assert 1 <= len(group) <= count
        assert sum(message.ByteSize() for message in group[:-1]) < PAGE_BYTES
    for group, following in itertools.pairwise(groups):
        is_full = sum(message.ByteSize() for message in group) >= PAGE_BYTES
        assert len(group) == count or is_full, f"{len(following)} more would have fitted"


def test_a_page_of_large_messages_ends_by_its_bytes() -> None:
    items = [f"i{number}" for number in range(7)]
    pages: list[list[str]] = []
    token = ""
    while True:
        page, token = page_of(
            items, str, 0, token, lambda name: pb.Recording(name=name, corpus="x" * PAGE_BYTES)
        )
        pages.append([message.name for message in page])
        if not token:
            break
    assert pages == [[name] for name in items]
