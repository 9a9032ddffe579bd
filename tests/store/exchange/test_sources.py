"""Headers of files that are imported are proven before anything is believed or allocated."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.formats.test_npy import LYING_NPY

from isogloss.errors import IsoglossError
from isogloss.store import NumpyRows, SafetensorsRows


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
