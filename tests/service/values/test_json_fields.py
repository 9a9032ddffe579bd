"""Fields of JSON are checked by type; ids that follow from what they are of."""

from collections.abc import Callable, Mapping

import pytest

from isogloss.errors import InvalidInput
from isogloss.service.values.json_fields import (
    codes_id,
    default_probe_id,
    object_of,
    revision_of,
    share_of,
    text_of,
    texts_of,
)
from isogloss.store import Revision

BODY: Mapping[str, object] = {
    "text": "a",
    "texts": ["b", "a"],
    "object": {"x": 1},
    "number": 3,
    "bool": True,
    "mixed": ["a", 1],
    "null": None,
}


def test_fields_are_read_as_they_are() -> None:
    assert text_of(BODY, "text") == "a"
    assert texts_of(BODY, "texts") == ["b", "a"]
    assert object_of(BODY, "object") == {"x": 1}
    assert object_of(BODY, "null") == object_of(BODY, "missing") == {}
    number = share_of(BODY, "number")
    assert (number, type(number)) == (3.0, float)
    assert share_of({"x": 0.25}, "x") == 0.25
    assert share_of(BODY, "null") is share_of(BODY, "missing") is None


@pytest.mark.parametrize(
    ("read", "name", "says"),
    [
        (text_of, "number", "number is 3, wanted text"),
        (text_of, "missing", "missing is None, wanted text"),
        (texts_of, "text", "text is 'a', wanted a list of texts"),
        (texts_of, "mixed", "mixed is ['a', 1], wanted a list of texts"),
        (texts_of, "missing", "missing is None, wanted a list of texts"),
        (object_of, "texts", "texts is ['b', 'a'], wanted an object"),
        (share_of, "bool", "bool is True, wanted a number"),
        (share_of, "text", "text is 'a', wanted a number"),
    ],
)
def test_a_field_of_another_type_is_refused(
    read: Callable[[Mapping[str, object], str], object], name: str, says: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(BODY, name)
    assert str(caught.value) == says


def test_a_revision_is_read_from_its_field() -> None:
    revision = Revision(recording="u1", lanes=(("l1", 5), ("l2", 7)))
    assert revision_of({"revision": revision.to_dict()}) == revision
    assert revision_of({"other": revision.to_dict()}, "other") == revision
    with pytest.raises(InvalidInput):
        revision_of({"other": revision.to_dict()})


def test_codes_have_an_id_of_their_own_for_each_dictionary_on_each_probe() -> None:
    assert codes_id("d1", "p1") == "ca5e2bd7f78e6ff87f7c9698c"
    assert len({codes_id(*pair) for pair in [("d1", "p1"), ("d1", "p2"), ("d2", "p1")]}) == 3


def test_the_default_probe_of_the_same_recordings_is_the_same() -> None:
    assert default_probe_id(["b", "a", "b"]) == default_probe_id(("a", "b")) == "probe-7e18f737311b"
    assert default_probe_id(["a"]) != default_probe_id(["a", "b"])
    assert default_probe_id(["ab"]) != default_probe_id(["a", "b"])
