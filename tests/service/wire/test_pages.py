import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogloss.errors import InvalidInput
from isogloss.service.wire.pages import offset_page, page_of


@given(st.sets(st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)), st.integers(1, 5))
def test_pages_put_together_are_the_list(ids: set[str], size: int) -> None:
    items = sorted(ids)
    found: list[str] = []
    token = ""
    while True:
        page, token = page_of(items, str, size, token)
        assert len(page) <= size
        found += page
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
            page_of(["a"], str, size, token)
        with pytest.raises(InvalidInput, match="page_"):
            offset_page(3, size, token)
