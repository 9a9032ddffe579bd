import hashlib
import subprocess
import sys
from types import UnionType
from typing import Literal, get_origin

import numpy as np
import pytest

import isogloss.store
from isogloss.errors import (
    DocumentMismatch,
    InvalidInput,
    InvalidName,
    NotFound,
    ShapeError,
    UnsupportedVersion,
)
from isogloss.store import Document, ModelInfo, RecordingSpec, Revision, SiteSpec
from isogloss.store.schema.document import DocumentTable
from isogloss.store.testing import sample_spec


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = (
        "import isogloss.store as s, sys\n"
        "for name in s.__all__:\n"
        "    if name != 'register_bfloat16': getattr(s, name)\n"
        "print(sorted({'torch', 'zarr', 'numba', 'numcodecs', 'faiss', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_listed_and_can_be_had() -> None:
    assert list(isogloss.store.__all__) == sorted(isogloss.store.__all__)
    assert set(isogloss.store.__all__) == set(isogloss.store._MODULES)
    for name in isogloss.store.__all__:
        found = getattr(isogloss.store, name)
        is_alias = get_origin(found) in {Literal, UnionType}
        assert is_alias or found.__name__ == name
    with pytest.raises(AttributeError, match="Nonsense"):
        isogloss.store.__getattr__("Nonsense")


def test_a_specification_survives_json() -> None:
    spec = sample_spec()
    assert RecordingSpec.from_dict(spec.to_dict()) == spec


def test_a_specification_of_an_unknown_version_is_refused() -> None:
    with pytest.raises(UnsupportedVersion, match="schema version 99"):
        RecordingSpec.from_dict({**sample_spec().to_dict(), "schema_version": 99})


@pytest.mark.parametrize("field", ["recording", "model", "sites", "tokenizer", "provenance"])
def test_a_specification_without_a_field_is_refused(field: str) -> None:
    document = sample_spec().to_dict()
    del document[field]
    with pytest.raises(InvalidInput, match=field):
        RecordingSpec.from_dict(document)


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a/b", "1st", "a" * 64, "a b", "a\n"])
def test_a_recording_id_never_is_a_path(name: str) -> None:
    with pytest.raises(InvalidName, match=r"a-z"):
        sample_spec(name)


def test_sites_are_checked() -> None:
    with pytest.raises(ShapeError, match="width 0"):
        SiteSpec(name="x", width=0)
    with pytest.raises(InvalidName, match="0 characters"):
        SiteSpec(name="", width=1)
    with pytest.raises(ShapeError, match="float64"):
        SiteSpec.from_dict({"name": "x", "width": 1, "dtype": "float64"})
    twice = SiteSpec(name="x", width=1)
    with pytest.raises(InvalidInput, match="named twice"):
        sample_spec(sites=(twice, twice))
    with pytest.raises(InvalidInput, match="0 sites"):
        sample_spec(sites=())
    with pytest.raises(NotFound, match="layer\\.1/out"):
        sample_spec().site_index("nope")


def test_ancestry_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidInput, match="plain JSON"):
        RecordingSpec(
            recording="x",
            model=ModelInfo(name="m", ancestry={"x": object()}),
            tokenizer="t",
            corpus="c",
            sites=(SiteSpec(name="x", width=1),),
            has_spans=False,
        )


def test_a_revision_is_named_by_its_rows() -> None:
    one = Revision(recording="r", lanes=(("a", 3), ("b", 4)))
    assert one.rows == 7
    assert Revision.from_dict(one.to_dict()) == one
    assert one.id == Revision(recording="r", lanes=(("a", 3), ("b", 4))).id
    assert one.id != Revision(recording="r", lanes=(("a", 3), ("b", 5))).id
    with pytest.raises(InvalidInput, match="at least one row"):
        Revision(recording="r", lanes=(("a", 0),))
    with pytest.raises(InvalidInput, match="not \\[name, rows\\]"):
        Revision.from_dict({**one.to_dict(), "lanes": [["a"]]})


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
    with pytest.raises(DocumentMismatch, match="share the id"):
        table.add(Document(key=first.key[:8] + bytes(24)))
    with pytest.raises(DocumentMismatch, match="group"):
        table.add(Document(key=first.key, group="other"))
    text = Document.from_text("t")
    table.add(Document(key=text.key))
    assert table.add(text)
    assert not table.add(text)
