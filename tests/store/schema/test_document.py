"""Documents are named by their content; a table refuses two under one id."""

import hashlib

import numpy as np
import pytest

from isogloss.errors import (
    DocumentMismatch,
    InvalidInput,
)
from isogloss.store import Document
from isogloss.store.schema.document import DocumentTable


def test_a_document_is_named_by_its_text() -> None:
    document = Document.from_text("naïve text")
    assert document.key == hashlib.sha256("naïve text".encode()).digest()
    assert document.id == int.from_bytes(document.key[:8], "big")
    assert Document.from_token_ids([1, 2]).key == hashlib.sha256(b"\1\0\0\0\2\0\0\0").digest()


def test_a_text_under_another_key_is_refused() -> None:
    with pytest.raises(DocumentMismatch, match="sha256"):
        Document(key=bytes(32), text="x")
    with pytest.raises(InvalidInput, match="31 bytes"):
        Document(key=bytes(31))
    with pytest.raises(InvalidInput, match="surrogate"):
        Document.from_text("\ud800")
    with pytest.raises(InvalidInput, match="token ids"):
        Document.from_token_ids([-1])
    with pytest.raises(InvalidInput, match="token ids"):
        Document.from_token_ids(np.zeros((2, 2), np.int64))


def test_documents_of_one_group_fall_on_one_side_of_every_split() -> None:
    places = [Document.from_text(f"{i}", group="book").split_position for i in range(5)]
    assert len(set(places)) == 1
    alone = [Document.from_text(f"{i}").split_position for i in range(2000)]
    assert all(0 <= place < 1 for place in alone)
    assert 0.22 < np.mean(np.array(alone) < 0.25) < 0.28


def test_the_table_refuses_a_second_document_under_an_id() -> None:
    first = Document.from_token_ids([1])
    table = DocumentTable([first])
    assert not table.add(first)
    assert (len(table), len(DocumentTable()), first.id in table) == (1, 0, True)
    with pytest.raises(DocumentMismatch, match="share the id"):
        table.add(Document(key=first.key[:8] + bytes(24)))
    named = f"^document {first.key.hex()[:16]} came with group '' and now with 'other': "
    with pytest.raises(DocumentMismatch, match=named):
        table.add(Document(key=first.key, group="other"))
    text = Document.from_text("t")
    table.add(Document(key=text.key))
    assert table.add(text)
    assert not table.add(text)


def test_of_documents_that_contradict_each_other_the_first_stays() -> None:
    first = Document.from_token_ids([1], group="a")
    table = DocumentTable()
    added = [
        table.add_first(document) for document in (first, first, Document(key=first.key, group="b"))
    ]
    assert added == [True, False, False]
    assert len(DocumentTable.of_lanes([first, Document(key=first.key, group="b")])) == 1
    assert table.check(first) is False
