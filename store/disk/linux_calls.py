"""Calls of Linux that Python lacks; each falls back to something weaker where there is none."""

import ctypes
import errno
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
_WRITE = 2
_REFUSALS = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_fallocate = getattr(_LIBC, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_sync_file_range = getattr(_LIBC, "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def reserve(descriptor: int, length: int) -> None:
    """Extend a file with zeros to ``length`` and reserve its blocks, if the file system can.

    ``os.posix_fallocate`` writes to every block where it cannot, which we do not want.

    Raises:
        OSError: there is no room, or the disk failed.
    """
    if _fallocate is not None:
        if _fallocate(descriptor, 0, 0, length) == 0:
            return
        code = ctypes.get_errno()
        if code in _REFUSALS:
            raise OSError(code, os.strerror(code))
    os.ftruncate(descriptor, length)


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Let the disk begin with bytes of the page cache; promises nothing, raises nothing."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, length, _WRITE)
