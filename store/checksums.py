"""CRC-32C, the checksum of everything the store writes."""

import google_crc32c
import numpy as np
from numpy.typing import NDArray


def crc32c(buffer: bytes | NDArray[np.generic], previous: int = 0) -> int:
    """Return the CRC-32C (Castagnoli) of a buffer, continuing ``previous``."""
    return google_crc32c.extend(previous, buffer)  # pyright: ignore[reportArgumentType] - takes any read-only buffer; its stub says bytes
