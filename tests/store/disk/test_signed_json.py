"""Small JSON files whose damage is found."""

import contextlib
import json

import pytest

from isogloss.errors import CorruptData, InvalidInput, UnsupportedVersion
from isogloss.store.disk import signed_json

DOCUMENT = {"schema_version": 1, "name": "é", "numbers": [1, 2.5, None]}


def test_a_document_is_read_back_without_its_checksum() -> None:
    content = signed_json.encode(DOCUMENT)
    assert signed_json.decode(content, "it") == DOCUMENT
    assert set(json.loads(content)) - set(DOCUMENT) == {"crc32c"}


def test_the_order_of_fields_and_spaces_do_not_matter() -> None:
    signed = json.loads(signed_json.encode(DOCUMENT))
    shuffled = json.dumps(dict(reversed(signed.items())), indent=7).encode()
    assert signed_json.decode(shuffled, "it") == DOCUMENT


def test_every_changed_character_is_found() -> None:
    content = signed_json.encode(DOCUMENT)
    for at in range(len(content)):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        with contextlib.suppress(CorruptData, UnsupportedVersion):
            assert signed_json.decode(changed, "it") == DOCUMENT  # only white space changed


def test_what_is_no_json_object_is_refused() -> None:
    for content in (b"", b"{", b"[1]", b"\xff", b"[" * 100_000):
        with pytest.raises(CorruptData, match="it"):
            signed_json.parse(content, "it")
    with pytest.raises(UnsupportedVersion, match="schema version 2"):
        signed_json.decode(signed_json.encode({"schema_version": 2}), "it")
    for value in (float("nan"), object()):
        with pytest.raises(InvalidInput, match="plain JSON"):
            signed_json.encode({"x": value})


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity"])
def test_a_number_that_no_float_holds_is_corrupt_data(number: str) -> None:
    with pytest.raises(CorruptData, match="finite"):
        signed_json.parse(b'{"a": [%s]}' % number.encode(), "x.json")
