"""Headers of files that are imported are proven before anything is believed or allocated."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.formats.test_npy import LYING_NPY

from isogloss.errors import IsoglossError, ShapeError
from isogloss.store import NumpyRows, RawRows, SafetensorsRows
from isogloss.store.exchange.sources import ArrayRows, as_column, open_source


def tensors(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype: object = "F32", shape: object = (1, 4), offsets: object = (0, 16)) -> object:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@given(
    noise=st.binary(max_size=80),
    at=st.integers(0, 200),
    kind=st.sampled_from(["npy", "safetensors"]),
)
@settings(max_examples=150, deadline=None)
def test_no_bytes_whatever_cause_anything_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, kind: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"noise.{kind}"
    whole = LYING_NPY["too long"][:-1] if kind == "npy" else tensors(entry(), bytes(16))
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    try:
        source = NumpyRows(path) if kind == "npy" else SafetensorsRows(path, "x")
        assert source.read(0, source.rows).nbytes <= path.stat().st_size
    except IsoglossError:
        pass


def test_a_file_of_nothing_but_numbers_gives_all_its_rows_or_the_first(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    path = tmp_path / "x.bin"
    path.write_bytes(values.tobytes())
    for rows, wanted in ((None, 6), (6, 6), (4, 4), (0, 0)):
        source = RawRows(path, "float32", 2, rows=rows)
        assert source.read(0, source.rows).tobytes() == values[:wanted].tobytes()
    assert RawRows(path, "float32", 2, offset=48).rows == 0
    for rows, offset in ((7, 0), (None, 4), (None, 56), (1, 48)):
        with pytest.raises(ShapeError, match="whole number of rows"):
            RawRows(path, "float32", 2, rows=rows, offset=offset)


def test_a_source_is_made_of_arrays_files_and_sources(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.save(tmp_path / "x.npy", values)
    made = ArrayRows(values)
    assert open_source(made, "x") is made
    assert open_source(values, "x").read(1, 3).tobytes() == values[1:3].tobytes()
    joined = open_source([tmp_path / "x.npy", values, made], "x")
    assert joined.rows == 12
    assert joined.read(3, 9).tobytes() == np.concatenate([values] * 3)[3:9].tobytes()


@pytest.mark.parametrize(
    ("value", "is_held"), [(-1, False), (0, True), (2**32 - 1, True), (2**32, False)]
)
def test_a_column_is_taken_where_the_wanted_type_holds_each_value(
    value: int, is_held: bool
) -> None:
    column = np.array([1, value], np.int64)
    if is_held:
        assert as_column(column, np.uint32, "token_id").tolist() == [1, value]
    else:
        with pytest.raises(ShapeError, match=rf"column 'token_id' holds .*{value}.* uint32 cannot"):
            as_column(column, np.uint32, "token_id")
