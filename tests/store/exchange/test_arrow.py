"""Arrow batches say the same as the reader, as another library reads them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import nanoarrow
import numpy as np
import pytest

from isogloss.errors import InvalidInput, MissingExtra, NotFound
from isogloss.store import RecordingReader, SiteSpec, Store, arrow_batches
from isogloss.store.testing import sample_batch, sample_spec

SITES = {"layer.1/out": "bfloat16", "layer.2": "float32", "layer.3": "float16"}
SPEC = sample_spec(
    sites=tuple(
        SiteSpec.from_dict({"name": name, "width": 5 + i, "dtype": dtype})
        for i, (name, dtype) in enumerate(SITES.items())
    )
)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[RecordingReader]:
    with Store.open(tmp_path) as store:
        with store.create_recording(SPEC, ["a"]).open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", i) for i in range(1, 6)])
        yield store.recording("sample").reader()


def test_record_batches_hold_all_columns_of_all_rows(reader: RecordingReader) -> None:
    found = [nanoarrow.Array(batch) for batch in arrow_batches(reader, list(SITES), batch_rows=16)]
    assert [len(batch) for batch in found] == [16] * (reader.rows // 16) + [reader.rows % 16]
    rows = [row for batch in found for row in batch.to_pylist()]
    assert list(rows[0]) == ["row", *reader.column_names, *SITES]
    assert [row["row"] for row in rows] == list(range(reader.rows))
    for name in reader.column_names:
        assert [row[name] for row in rows] == reader.column(name).tolist()
    for site in SITES:
        values = np.array([row[site] for row in rows], np.float32)
        wanted = reader.read(site, 0, reader.rows).astype(np.float32)
        np.testing.assert_array_equal(values, wanted)


def test_the_types_are_those_of_the_columns(reader: RecordingReader) -> None:
    (batch,) = arrow_batches(reader, list(SITES), start=3, stop=9)
    schema = nanoarrow.Schema(nanoarrow.c_array(batch).schema)
    kinds = {field.name: field.type for field in schema.fields}
    assert kinds["token_id"] == nanoarrow.Type.UINT32
    assert kinds["document"] == nanoarrow.Type.UINT64
    sites = {field.name: field for field in schema.fields if field.name in SITES}
    assert [field.list_size for field in sites.values()] == [5, 6, 7]
    inner = [nanoarrow.Schema(nanoarrow.c_schema(field).child(0)) for field in sites.values()]
    float32, float16 = nanoarrow.Type.FLOAT, nanoarrow.Type.HALF_FLOAT
    assert [field.type for field in inner] == [float32, float32, float16]
    assert not any(field.nullable for field in schema.fields)


def test_a_batch_outlives_the_iterator(reader: RecordingReader) -> None:
    last = list(arrow_batches(reader, ["layer.2"], batch_rows=8))[-1]
    wanted = reader.read("layer.2", reader.rows - reader.rows % 8, reader.rows)
    found = [row["layer.2"] for row in nanoarrow.Array(last).to_pylist()]
    np.testing.assert_array_equal(np.array(found, np.float32), wanted)


def test_what_arrow_batches_cannot_hold_is_refused(
    reader: RecordingReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="nope"):
        arrow_batches(reader, ["nope"])
    with Store.open(tmp_path / "doubled") as store:
        spec = sample_spec(sites=(SiteSpec(name="position", width=2),))
        doubled = store.create_recording(spec, ["a"]).reader()
        with pytest.raises(InvalidInput, match="'position' has the name of a token column"):
            arrow_batches(doubled, ["position"])
    monkeypatch.setitem(sys.modules, "nanoarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install isogloss\[arrow\]"):
        arrow_batches(reader, ["layer.2"])
