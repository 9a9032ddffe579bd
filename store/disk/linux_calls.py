"""System calls of Linux that Python has no function for.

:func:`reserve` and :func:`start_writing` do something weaker where the kernel lacks the call.
:func:`sync_together` syncs several files at the same time by the kernel's asynchronous I/O
(``io_submit(2)``), and one after the other where that is missing. Threads that each sync one file
were as fast for 96 KiB and 9 to 40 % slower for 8 MiB (docs/design/008).
"""

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Sequence

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

    A longer file keeps its length.

    ``os.posix_fallocate`` is not used: where the file system cannot reserve, it writes to every
    block.

    Args:
        descriptor: the open file.
        length: length of the file afterwards.

    Raises:
        OSError: there is no room, or the disk failed.
    """
    if _fallocate is not None:
        if _fallocate(descriptor, 0, 0, length) == 0:
            return
        code = ctypes.get_errno()
        if code in _REFUSALS:
            raise OSError(code, os.strerror(code))
    if os.fstat(descriptor).st_size < length:
        os.ftruncate(descriptor, length)


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Let the kernel begin to write bytes of the page cache to the disk. Raises nothing."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, offset, length, _WRITE)


_AIO_NUMBERS = {"x86_64": (206, 209, 208), "aarch64": (0, 2, 4)}
"""Numbers of io_setup, io_submit and io_getevents, for which glibc has no functions."""

_FDATASYNC = 3
_MOST = 32
"""Files of one submission."""


class _Request(ctypes.Structure):
    """``struct iocb`` of a little-endian machine."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("event_descriptor", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    """``struct io_event``."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class _SyncQueue:
    """A context of the kernel with room for ``_MOST`` requests; for one thread at a time."""

    def __init__(self, numbers: tuple[int, int, int]) -> None:
        setup, self._submit, self._wait = numbers
        self._context = ctypes.c_ulong(0)
        self._requests = (_Request * _MOST)()
        first = ctypes.addressof(self._requests)
        size = ctypes.sizeof(_Request)
        self._pointers = (ctypes.c_void_p * _MOST)(*range(first, first + _MOST * size, size))
        self._events = (_Event * _MOST)()
        self._call(setup, _MOST, ctypes.byref(self._context))

    def _call(self, number: int, *arguments: object) -> int:
        while True:
            found = _LIBC.syscall(number, *arguments)
            if found >= 0:
                return int(found)
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))

    def sync(self, descriptors: Sequence[int]) -> list[int | None]:
        """Sync at most ``_MOST`` files.

        Args:
            descriptors: the files' descriptors.

        Returns:
            For each file an errno: 0 where it is durable; None where the kernel did not take it.
        """
        for place, descriptor in enumerate(descriptors):
            request = self._requests[place]
            request.data, request.opcode, request.descriptor = place, _FDATASYNC, descriptor
        found: list[int | None] = [None] * len(descriptors)
        try:
            left = self._call(self._submit, self._context, len(descriptors), self._pointers)
        except OSError:
            return found
        while left:
            ended = self._call(self._wait, self._context, left, left, self._events, None)
            for event in self._events[:ended]:
                found[event.data] = -event.result
            left -= ended
        return found


_idle: list[_SyncQueue] = []
os.register_at_fork(after_in_child=_idle.clear)  # a context is its process's alone


def _take_queue() -> _SyncQueue | None:
    """Return a queue that no other thread uses; None where the kernel gives none."""
    numbers = _AIO_NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
    if numbers is None or sys.byteorder != "little":
        return None
    try:
        return _idle.pop()
    except IndexError:
        pass
    try:
        return _SyncQueue(numbers)
    except OSError:  # no permission, too many contexts, no such call
        return None


def sync_together(descriptors: Sequence[int]) -> None:
    """``os.fdatasync`` of several files, all at once where the kernel can.

    Args:
        descriptors: the files' descriptors.

    Raises:
        OSError: the first file that failed; the others may or may not be durable.
    """
    codes: list[int | None] = [None] * len(descriptors)
    queue = _take_queue() if len(descriptors) > 1 else None
    if queue is not None:
        for start in range(0, len(descriptors), _MOST):
            codes[start : start + _MOST] = queue.sync(descriptors[start : start + _MOST])
        _idle.append(queue)
    for descriptor, code in zip(descriptors, codes, strict=True):
        if code is None:
            os.fdatasync(descriptor)
        elif code:
            raise OSError(code, os.strerror(code))
