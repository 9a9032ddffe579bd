"""CRC-32C, the checksum of everything the store writes."""

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from isogloss.store.disk.filesystem import FileSystem, read_range

_BLOCK_BYTES = 8 << 20


def crc32c(buffer: bytes | NDArray[np.generic], previous: int = 0) -> int:
    """Return the CRC-32C (Castagnoli) of a buffer, continuing ``previous``."""
    return google_crc32c.extend(previous, buffer)  # pyright: ignore[reportArgumentType] - takes any read-only buffer; its stub says bytes


def file_crc32c(files: FileSystem, descriptor: int, offset: int, length: int) -> int:
    """Return the CRC-32C of bytes of an open file, read block by block.

    Args:
        files: the file system that the file is on.
        descriptor: the open file.
        offset: of the first byte.
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
