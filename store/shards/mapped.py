"""All rows of a site as one array: the shards of its lanes, mapped into memory side by side.

Rows start at byte 4,096 of a shard and fill it to its end. So shards that are mapped one behind
the other form one table, and a batch of any rows is one gather. When the disk fails to read a
mapped page the process ends with SIGBUS: training jobs map rows, the server does not.
"""

import ctypes
import mmap
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import StorageError
from isogloss.store.disk.filesystem import OpenFile

_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000
_FAILED = ctypes.c_void_p(-1).value

Table: TypeAlias = NDArray[np.generic]
"""Rows as opaque bytes, ``[virtual rows]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MappedRun:
    """Rows of one shard to be mapped."""

    file: OpenFile
    """The shard; may be closed once it is mapped."""

    offset: int
    """First byte of its rows, a multiple of the page size."""

    length: int
    """Bytes of the file from there on that hold rows."""

    room: int
    """Bytes a full shard would have: where the next one starts; a multiple of the page size."""


def can_map(runs: Sequence[MappedRun]) -> bool:
    """Whether the runs lie on page bounds."""
    return all(run.offset % mmap.PAGESIZE == 0 and run.room % mmap.PAGESIZE == 0 for run in runs)


def map_rows(runs: Sequence[MappedRun], row_bytes: int) -> Table:
    """Map shards behind one another, read-only; unmapped when the last view of them is garbage.

    Args:
        runs: in the order of their rows; :func:`can_map` must hold.
        row_bytes: bytes of one row.

    Returns:
        A table in which shard i starts at row ``sum(room of shards before) / row_bytes``; only
        rows that a shard holds may be touched.

    Raises:
        StorageError: the system refuses, such as for too many mappings.
    """
    total = sum(run.room for run in runs)
    if total == 0:
        return np.empty(0, np.dtype(f"V{row_bytes}"))
    libc = _libc()
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    base = libc.mmap(None, total, 0, flags, -1, 0)
    if base in (None, _FAILED):
        raise _refused(total)
    place = base
    for run in runs:
        length = -(-run.length // mmap.PAGESIZE) * mmap.PAGESIZE
        if length:
            fixed = mmap.MAP_SHARED | _MAP_FIXED
            at = libc.mmap(place, length, mmap.PROT_READ, fixed, run.file.descriptor, run.offset)
            if at != place:
                error = _refused(length)
                libc.munmap(base, total)
                raise error
        place += run.room
    memory = (ctypes.c_ubyte * total).from_address(base)
    weakref.finalize(memory, libc.munmap, base, total)
    flat = np.ctypeslib.as_array(memory)
    return flat[: total // row_bytes * row_bytes].view(np.dtype(f"V{row_bytes}"))


def _refused(length: int) -> StorageError:
    code = ctypes.get_errno()
    return StorageError(f"{length} bytes cannot be mapped: {os.strerror(code)}")


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    size, address = ctypes.c_size_t, ctypes.c_void_p
    libc.mmap.argtypes = [address, size, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mmap.restype = address
    libc.munmap.argtypes = [address, size]
    return libc
