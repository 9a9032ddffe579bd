"""Reads a quantised site of a lane with numpy and a checksum only, from docs/store-format.md."""
# raw JSON, on purpose without the room's typed helpers, hence:
# pyright: basic

import json
from pathlib import Path

import google_crc32c
import ml_dtypes
import numpy as np

DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}


def read_array(directory: Path) -> np.ndarray:
    """Return an array of an array group, every chunk checked."""
    document = json.loads((directory / "zarr.json").read_bytes())
    rows, *rest = document["shape"]
    step = document["chunk_grid"]["configuration"]["chunk_shape"][0]
    parts = []
    for index in range(-(-rows // step)):
        content = (directory / ".".join(["c", str(index), *["0"] * len(rest)])).read_bytes()
        assert google_crc32c.value(content[:-4]) == int.from_bytes(content[-4:], "little")
        parts.append(content[:-4])
    flat = np.frombuffer(b"".join(parts), document["data_type"])
    return flat.reshape(-1, *rest)[:rows]


def read_quantised(directory: Path) -> tuple[np.ndarray, dict]:
    """Return the rows of ``quantised-i`` in the site's dtype, and the note of their error."""
    note = json.loads((directory / "zarr.json").read_bytes())["attributes"]
    values, scale = read_array(directory / "values"), read_array(directory / "scale")
    return (values * scale[:, None]).astype(DTYPES[note["dtype"]]), note
