"""Headers of ``.npy`` files: written ahead of the numbers, and checked before they are believed.

numpy writes and parses the headers (``numpy.lib.format``). Nothing is unpickled, and nothing is
allocated before the length of the file was found to be what the header needs.
"""

import io
import math
import tokenize
from pathlib import Path

import numpy as np

from isogloss.errors import CorruptData
from isogloss.store.disk.filesystem import FileSystem, read_range

_MOST_HEADER_BYTES = 64 << 10
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,  # differs in the names of fields, refused here
}
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    RecursionError,
    MemoryError,
    OverflowError,
    tokenize.TokenError,
)
"""What numpy raises for headers that are none."""


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

    Args:
        files: the file system that the file is on.
        path: the file's path, for error messages.
        descriptor: the open file.

    Returns:
        The dtype, the shape, and the byte at which the first number starts.

    Raises:
        CorruptData: the file has no header of version 1 to 3, the header asks for another length
            than the file has, or it describes objects, records, foreign byte order or a matrix
            stored column by column.
    """
    size = files.size(descriptor)
    head = io.BytesIO(read_range(files, descriptor, 0, min(size, _MOST_HEADER_BYTES)).tobytes())
    try:
        read = _READERS[np.lib.format.read_magic(head)]
        shape, is_fortran, dtype = read(head, max_header_size=_MOST_HEADER_BYTES)
    except KeyError as error:
        raise CorruptData(f"{path} is a .npy file of version {error}, wanted 1 to 3") from error
    except _UNREADABLE as error:
        raise CorruptData(f"{path} has no sound .npy header: {str(error)[:300]}") from error
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise CorruptData(f"{path} holds {dtype}, wanted plain numbers: save one array of numbers")
    if not dtype.isnative:
        raise CorruptData(f"{path} holds {dtype} of foreign byte order: save it little endian")
    if is_fortran and sum(n > 1 for n in shape) > 1:
        raise CorruptData(f"{path} is stored columns first: save np.ascontiguousarray of it")
    found, wanted = size - head.tell(), dtype.itemsize * math.prod(shape)
    if min(shape, default=0) < 0 or wanted != found:
        raise CorruptData(
            f"{path} has {found} bytes of numbers, its header says {dtype} {list(shape)}, "
            f"{wanted} bytes: it was cut short, or its header lies"
        )
    return dtype, shape, head.tell()
