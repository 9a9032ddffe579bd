"""Ids, uids and lane names can never be paths."""

import os

import pytest

from isogloss.errors import InvalidInput, InvalidName
from isogloss.store.schema.names import check_id, check_text, readable_text
from isogloss.store.testing import sample_spec


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a/b", "1st", "a" * 64, "a b", "a\n"])
def test_a_recording_id_never_is_a_path(name: str) -> None:
    with pytest.raises(InvalidName, match=r"a-z"):
        sample_spec(name)


def test_a_text_that_utf8_cannot_hold_is_refused_and_one_that_is_there_made_readable() -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    with pytest.raises(InvalidInput, match=r"group 'caf\\udce9.txt' has a lone surrogate at 3"):
        check_text(name, "group")
    assert readable_text(name) == "caf\ufffd.txt"
    for plain in ("", "caf\u00e9", "\U0001f469", "\ufffd", "\x00"):
        assert check_text(plain, "group") == readable_text(plain) == plain


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("My_Corpus", "my-corpus"),
        ("Pythia 70M (v2)", "pythia-70m-v2"),
        ("2nd", "x-2nd"),
        ("", "x"),
        ("Über", "uber"),
        ("a" * 99, "a" * 63),
        ("日本", "x"),
    ],
)
def test_an_id_of_no_form_is_refused_with_one_that_is(name: str, wanted: str) -> None:
    with pytest.raises(InvalidName, match=f"such as {wanted!r}"):
        check_id(name)
    assert check_id(wanted) == wanted
