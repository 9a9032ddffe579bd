"""Headers of ``.safetensors`` files are checked before they are believed."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData
from isogloss.store import SafetensorsRows


def tensors(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(dtype: object = "F32", shape: object = (1, 4), offsets: object = (0, 16)) -> object:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


LYING_SAFETENSORS = {
    "nothing": b"",
    "huge header": struct.pack("<Q", 1 << 62) + b"{}",
    "header beyond the file": struct.pack("<Q", 100) + b"{}",
    "no JSON": tensors(b"hello"),
    "a list": tensors([1]),
    "unknown dtype": tensors(entry(dtype="F4"), bytes(16)),
    "dtype no text": tensors(entry(dtype=[1]), bytes(16)),
    "negative": tensors(entry(shape=(-1, -4)), bytes(16)),
    "true": tensors(entry(shape=(True, 4)), bytes(16)),
    "huge shape": tensors(entry(shape=(1 << 62, 4)), bytes(16)),
    "offsets beyond": tensors(entry(offsets=(0, 32), shape=(2, 4)), bytes(16)),
    "offsets backwards": tensors(entry(offsets=(16, 0)), bytes(16)),
    "one offset": tensors(entry(offsets=(16,)), bytes(16)),
    "a gap": tensors(entry(offsets=(4, 20)), bytes(20)),
    "trailing bytes": tensors(entry(), bytes(20)),
    "an overlap": tensors({**entry(), "y": entry()["x"]}, bytes(16)),  # type: ignore[dict-item, index]
    "twice": tensors(
        json.dumps(entry()).encode()[:-1] + b"," + json.dumps(entry()).encode()[1:], bytes(16)
    ),
    "no fields": tensors({"x": 5}, bytes(16)),
    "nested": tensors(b'{"x":' * 50_000),
}


@pytest.mark.parametrize("name", LYING_SAFETENSORS)
def test_a_lying_safetensors_header_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(LYING_SAFETENSORS[name])
    with pytest.raises(CorruptData):
        SafetensorsRows(tmp_path / "x.safetensors", "x")


def test_tensors_that_follow_one_another_are_each_read_where_they_lie(tmp_path: Path) -> None:
    values = np.arange(10, dtype=np.float32)
    header = {
        "y": {"dtype": "F32", "shape": [3, 2], "data_offsets": [16, 40]},
        "x": {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]},
        "none": {"dtype": "F32", "shape": [0, 4], "data_offsets": [16, 16]},
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensors(header, values.tobytes()))
    for name, wanted in (("x", values[:4]), ("y", values[4:]), ("none", values[:0])):
        source = SafetensorsRows(path, name)
        assert source.read(0, source.rows).tobytes() == wanted.tobytes()
