"""Parquet files, read as pyarrow writes them and written as it reads them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData, InvalidInput, MissingExtra, NotFound
from isogloss.store import check_codes, write_parquet
from isogloss.store.exchange.parquet import read_parquet

COLUMNS = {
    "segment": np.array([0, 1, 1], np.uint32),
    "feature": np.array([2, 0, 3], np.int64),
    "value": np.array([1.0, 2.0, 3.0], np.float32),
}


def test_without_pyarrow_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"pip install isogloss\[parquet\]"):
        write_parquet(tmp_path / "a.parquet", COLUMNS, {})
    with pytest.raises(MissingExtra, match=r"pip install isogloss\[parquet\]"):
        check_codes(tmp_path / "a.parquet", segments=4, features=4)
    assert not list(tmp_path.iterdir())


def test_columns_come_back_with_their_types_and_metadata(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    columns = {**COLUMNS, "label": np.array(["yes", "no", "undecided"])}
    write_parquet(path, columns, {"provenance": "{}"})
    assert parquet.read_schema(path).metadata[b"provenance"] == b"{}"
    found = read_parquet(path, ["label", "value", "segment"])
    assert list(found) == ["label", "value", "segment"]
    assert found["label"].tolist() == ["yes", "no", "undecided"]
    assert found["value"].dtype == np.float32
    np.testing.assert_array_equal(found["segment"], COLUMNS["segment"])
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


def test_codes_in_a_parquet_file_are_those_of_the_columns(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_parquet(tmp_path / "a.parquet", COLUMNS, {})
    found = check_codes(tmp_path / "a.parquet", segments=4, features=4)
    assert found.digest == check_codes(COLUMNS, segments=4, features=4).digest


def test_what_is_missing_null_or_no_parquet_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    with pytest.raises(NotFound, match="no file"):
        read_parquet(tmp_path / "none.parquet", ["value"])
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(CorruptData, match="no Parquet file"):
        read_parquet(tmp_path / "text.parquet", ["value"])
    parquet.write_table(arrow.table({"value": [1.0, None]}), tmp_path / "null.parquet")
    with pytest.raises(InvalidInput, match="1 nulls"):
        read_parquet(tmp_path / "null.parquet", ["value"])
    with pytest.raises(InvalidInput, match="lacks segment"):
        read_parquet(tmp_path / "null.parquet", ["segment", "value"])
