"""``.npy`` files without numpy's loader: headers written ahead, headers believed only when proven.

``numpy.load`` would unpickle objects and allocates what a header asks for. Here the header gives
shape and dtype alone, and the file's length must be exactly what they need.
"""

import ast
import io
import struct
from pathlib import Path

import numpy as np

from isogloss.errors import CorruptData
from isogloss.store.disk.filesystem import FileSystem, read_range

_MOST_HEADER_BYTES = 64 << 10
_MAGIC = b"\x93NUMPY"
_LENGTHS = {b"\x01\x00": struct.Struct("<H"), b"\x02\x00": struct.Struct("<I")}


def npy_header(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """Return the bytes of a ``.npy`` file before its numbers; their length is a multiple of 64."""
    buffer = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": description, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def read_npy_header(
    files: FileSystem, path: Path, descriptor: int
) -> tuple[np.dtype[np.generic], tuple[int, ...], int]:
    """Return dtype and shape of a ``.npy`` file, and where its numbers start.

    Raises:
        CorruptData: it is no such file, its header lies about its length, or it holds objects,
            foreign byte order or columns first.
    """
    size = files.size(descriptor)
    head = read_range(files, descriptor, 0, min(size, _MOST_HEADER_BYTES)).tobytes()
    dtype, is_fortran, shape, start = _parse_header(head, path)
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise CorruptData(f"{path} holds {dtype}, wanted plain numbers: save one array of numbers")
    if not dtype.isnative:
        raise CorruptData(f"{path} holds {dtype} of foreign byte order: save it little endian")
    if is_fortran and sum(n > 1 for n in shape) > 1:
        raise CorruptData(f"{path} is stored columns first: save np.ascontiguousarray of it")
    wanted = dtype.itemsize
    for length in shape:
        wanted *= length
    if wanted != size - start:
        raise CorruptData(
            f"{path} has {size - start} bytes of numbers, its header says {dtype} "
            f"{list(shape)}, {wanted} bytes: it was cut short, or its header lies"
        )
    return dtype, shape, start


def _parse_header(
    head: bytes, path: Path
) -> tuple[np.dtype[np.generic], bool, tuple[int, ...], int]:
    """Return dtype, order and shape that a header names, and where it ends."""
    length_format = _LENGTHS.get(head[6:8])
    if head[:6] != _MAGIC or length_format is None:
        raise CorruptData(f"{path} is no .npy file of version 1.0 or 2.0: save it again")
    try:
        (length,) = length_format.unpack_from(head, 8)
        start = 8 + length_format.size + length
        if start > len(head):
            raise CorruptData(f"{path} has {len(head)} bytes of header, wanted {start}")
        header: object = ast.literal_eval(head[start - length : start].decode("latin1"))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, struct.error) as error:
        raise CorruptData(f"{path} has no sound .npy header: {error}") from error
    match header:
        case {
            "descr": str() as descr,
            "fortran_order": bool() as is_fortran,
            "shape": tuple() as shape,
        }:
            sizes = tuple(n for n in shape if isinstance(n, int) and n >= 0)
            if len(sizes) == len(shape):
                return _dtype(descr, path), is_fortran, sizes, start
        case _:
            pass
    raise CorruptData(f"{path} has the .npy header {str(header)[:200]}, wanted plain numbers")


def _dtype(description: str, path: Path) -> np.dtype[np.generic]:
    try:
        return np.dtype(description)
    except (TypeError, ValueError, SyntaxError) as error:
        raise CorruptData(f"{path} holds {description[:80]!r}, which is no dtype") from error
