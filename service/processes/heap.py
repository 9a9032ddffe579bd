"""Settings of memory, the C library's and Python's, for a process through which batches pass."""

import ctypes
import gc

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of ``mallopt(3)``."""
_KEPT_BYTES = 64 << 20
_LARGEST_BYTES = 32 << 20
"""The most that glibc takes from what it keeps."""
_ARENAS = 2
_NEW_OBJECTS = 10_000
"""Python looks for cycles when there are so many more objects than at its last look; else 700."""


def keep_freed_memory() -> None:
    """Have freed memory used again instead of given back; does nothing where there is no glibc.

    A batch lives until it is on the disk, and by default each part of it, of 1 MiB, was fresh
    memory of the kernel: 160 to 260 page faults a MiB, a quarter of the server's time. They are 30
    now. Up to 64 MiB stay with the process when they are free. Few arenas, since each thread that
    reads or receives otherwise keeps memory that the others cannot use.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
        mallopt(_ARENA_MAX, _ARENAS)


def seldom_look_for_cycles() -> None:
    """Have Python's search for garbage in cycles begin later, and leave out what is there now.

    Batches make no cycles. As Python does it by itself, the search took a ninth of the server's
    time, most of it for objects of the modules, which stay. The cycles that errors leave are found
    all the same, only later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
