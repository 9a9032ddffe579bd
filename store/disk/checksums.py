"""CRC-32C, the checksum of everything the store writes."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import MissingExtra
from isogloss.store.disk.filesystem import FileSystem, read_range

_BLOCK_BYTES = 8 << 20


def crc32c(buffer: bytes | NDArray[np.generic], previous: int = 0) -> int:
    """Return the CRC-32C (Castagnoli) of a buffer, continuing ``previous``."""
    return _extend()(previous, buffer)  # pyright: ignore[reportArgumentType] - takes any read-only buffer; its stub says bytes


@cache
def _extend() -> Callable[[int, bytes], int]:
    """Find the library at first use: where only the client is installed, it is not there."""
    try:
        from google_crc32c import extend
    except ImportError as error:
        raise MissingExtra(
            "only the client is installed here, which writes no files of a store or an export: "
            "pip install 'isogloss[server]'"
        ) from error
    return extend


def file_crc32c(files: FileSystem, descriptor: int, offset: int, length: int) -> int:
    """Return the CRC-32C of bytes of an open file, read block by block.

    Args:
        files: the file system that the file is on.
        descriptor: the open file.
        offset: position of the first byte.
        length: number of bytes.

    Returns:
        The checksum.

    Raises:
        CorruptData: the file ends before ``offset + length``.
    """
    checksum = 0
    for start in range(0, length, _BLOCK_BYTES):
        size = min(_BLOCK_BYTES, length - start)
        checksum = crc32c(read_range(files, descriptor, offset + start, size), checksum)
    return checksum
