"""Who may read a store's files: its root's permissions, which all that is made below it takes over.

A store's root is its user's alone (0700). A root that a group shares (2750: the bit 2000 hands the
directory's group on to what is made in it) makes everything below readable by the group. So every
process that writes to a store, by whatever way, gives the same permissions without being told.
"""

import grp
import os
import stat
from collections.abc import Callable
from pathlib import Path

from isogloss.errors import InvalidInput, NotPermitted

PRIVATE = 0o700
"""Permissions of a store's root that only its user may enter."""

SHARED = stat.S_ISGID | 0o750
"""Permissions of a store's root whose files a group may read."""

SECRET = 0o600
"""Permissions of a file that only the store's user reads, whoever the store is shared with."""

SECRET_NAMES = frozenset({"isogloss.lock", "direct.proof", "token", "run"})
"""Names in a store's root that no group gets: the lock, secrets, the directory of the socket."""


def is_shared(directory: os.stat_result) -> bool:
    """Say whether what is made in a directory is for the directory's group too."""
    return bool(directory.st_mode & stat.S_ISGID) and bool(directory.st_mode & stat.S_IRGRP)


def file_mode(directory: os.stat_result) -> int:
    """Return the permissions of a new file: what its directory lets others do, but writing."""
    return stat.S_IMODE(directory.st_mode) & 0o644 | SECRET


def directory_mode(directory: os.stat_result) -> int:
    """Return the permissions of a new directory: what the one above lets others do, but writing."""
    return stat.S_IMODE(directory.st_mode) & 0o2755 | PRIVATE


def open_new(above: os.stat_result, make: Callable[[int], int]) -> int:
    """Make a file with its directory's permissions; return its descriptor.

    Args:
        above: of the directory.
        make: creates the file with given permissions, of which the umask may take some away.
    """
    descriptor = make(file_mode(above))
    if is_shared(above):  # whatever this process's umask is
        os.fchmod(descriptor, file_mode(above))
    return descriptor


def group_id(group: str) -> int:
    """Return the number of a group that this process may give files to.

    Raises:
        InvalidInput: there is no such group.
        NotPermitted: this process is not a member of it.
    """
    try:
        found = grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise InvalidInput(
            f"there is no group {group!r} on this machine: see `getent group`"
        ) from error
    if found not in (os.getegid(), *os.getgroups()) and os.geteuid() != 0:
        raise NotPermitted(
            f"this process is not a member of group {group!r}, and cannot give it a store's files"
        )
    return found


def share(root: Path, group: int) -> None:
    """Let a group read all that is below a root, secrets aside, and all that is made there later.

    Args:
        root: the store's root; nothing is changed where the group shares it already.
        group: number of the group.
    """
    found = root.stat()
    if is_shared(found) and found.st_gid == group:
        return
    for folder, folders, names in os.walk(root, topdown=True):
        here = Path(folder)
        hidden = SECRET_NAMES if here == root else frozenset[str]()
        folders[:] = [name for name in folders if name not in hidden]
        os.chown(here, -1, group)
        here.chmod(SHARED)
        for path in (here / name for name in names if name not in hidden):
            if not path.is_symlink():
                os.chown(path, -1, group)
                path.chmod(file_mode(here.stat()))
