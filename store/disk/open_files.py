"""How many files this process may have open, known before a lane needs them."""

import errno
import os
import resource
from pathlib import Path

from isogloss.errors import ResourceExhausted

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
"""Errors that mean "too many open files", after which nothing is damaged."""

_SPARE = 32
"""Descriptors that stay free for connections, logs and reading."""
_OPEN = Path("/proc/self/fd")


def check_open_files(wanted: int, what: str) -> None:
    """Raise an error where this process may not open so many files more.

    The soft limit is raised first, as far as the system lets this process.

    Args:
        wanted: how many files will be open at a time.
        what: what they are for, for the message.

    Raises:
        ResourceExhausted: the limit is lower; the message says how high it must be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or not _OPEN.exists():
        return
    used = len(os.listdir(_OPEN))
    needed = used + wanted + _SPARE
    if needed <= soft:
        return
    if hard == resource.RLIM_INFINITY or needed <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    raise ResourceExhausted(
        f"{what} needs {wanted} open files; this process has {used} open and may have {hard}: "
        f"start it with `ulimit -n {needed + 1024}` or more, or record fewer sites at a time"
    )
