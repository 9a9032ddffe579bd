"""Headers of ``.npy`` files are numpy's, and are checked before anything is allocated."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData
from isogloss.store import NumpyRows
from isogloss.store.formats.npy import npy_header


def npy(header: bytes, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + body


LYING_NPY = {
    "no magic": b"not a numpy file at all",
    "nothing": b"",
    "cut header": b"\x93NUMPY\x01\x00\xff\xff{",
    "later version": npy(b"{}", version=b"\x09\x00"),
    "object": npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 4)}", bytes(64)),
    "structured": npy(
        b"{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2,)}", bytes(8)
    ),
    "huge": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 40, 4)}", bytes(8)),
    "huge number": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 4)}"),
    "negative": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", bytes(16)),
    "negative twice": npy(
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4)}", bytes(16)
    ),
    "code": npy(b"__import__('os').system('true')"),
    "foreign order": npy(b"{'descr': '>f4', 'fortran_order': False, 'shape': (1, 4)}", bytes(16)),
    "columns first": npy(b"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 4)}", bytes(32)),
    "too long": npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4)}", bytes(17)),
    "nested": npy(b"(" * 5000),
    "no dtype": npy(b"{'descr': '<q9', 'fortran_order': False, 'shape': (1, 4)}", bytes(16)),
    "another field": npy(b"{'descr': '<f4', 'fortran_order': 0, 'shape': (4,), 'x': 1}", bytes(16)),
}


@pytest.mark.parametrize("name", LYING_NPY)
def test_a_lying_npy_header_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.npy").write_bytes(LYING_NPY[name])
    with pytest.raises(CorruptData, match=r"x\.npy"):
        NumpyRows(tmp_path / "x.npy")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_that_numpy_writes_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, values, version=version)
    assert np.array_equal(NumpyRows(tmp_path / "x.npy").read(0, 3), values)


@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (2, 3, 4)])
def test_a_header_that_is_written_ahead_is_the_one_numpy_writes(shape: tuple[int, ...]) -> None:
    values, saved = np.zeros(shape, np.uint16), io.BytesIO()
    np.save(saved, values)
    assert npy_header(values.dtype, shape) + values.tobytes() == saved.getvalue()


def npy_2(header: bytes, body: bytes) -> bytes:
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + body


def test_a_header_is_read_up_to_64_kib_and_no_further(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4)}"
    path = tmp_path / "x.npy"
    room = (64 << 10) - 12
    path.write_bytes(npy_2(header + b" " * (room - len(header)), bytes(16)))
    assert NumpyRows(path).read(0, 1).shape == (1, 4)
    path.write_bytes(npy_2(header + b" " * (room - len(header) + 1), bytes(16)))
    with pytest.raises(CorruptData, match=r"x\.npy"):
        NumpyRows(path)


def test_what_numpy_says_of_a_header_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy(b"{'descr': '" + b"q" * 5000 + b"'}"))
    with pytest.raises(CorruptData) as caught:
        NumpyRows(path)
    assert len(str(caught.value)) <= len(f"{path} has no sound .npy header: ") + 300


@pytest.mark.parametrize(
    ("shape", "is_refused"), [((4, 1), False), ((1, 4), False), ((2, 2), True)]
)
def test_columns_first_matters_only_where_there_are_several_of_both(
    tmp_path: Path, shape: tuple[int, int], is_refused: bool
) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(
        npy(b"{'descr': '<f4', 'fortran_order': True, 'shape': %a}" % (shape,), bytes(16))
    )
    if is_refused:
        with pytest.raises(CorruptData, match="columns first"):
            NumpyRows(path)
    else:
        assert NumpyRows(path).read(0, shape[0]).shape == shape
