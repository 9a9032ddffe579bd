"""Files below one directory, reached without following a symbolic link and owned by this user.

A process that is told by another where to write opens every path part by part from the root's
descriptor, so that neither ``..`` nor a planted link leads it elsewhere.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Generator
from pathlib import Path

from isogloss.errors import NotFound, NotPermitted
from isogloss.store.disk import permissions
from isogloss.store.disk.filesystem import FileSystem

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_S = 2.0


class RootedFiles(FileSystem):
    """The operating system's files below a root; links are refused. Disconnect when done."""

    def __init__(self, root: Path) -> None:
        """Open the root. It may be reached through links; below it links are refused.

        Args:
            root: the directory.

        Raises:
            NotFound: there is no such directory.
            NotPermitted: it belongs to another user.
        """
        self.root = root.absolute()
        """Where everything lies."""
        try:
            self._root: int | None = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"no directory {self.root}: is the storage mounted here?") from error
        try:
            _check_owner(self._root, self.root)
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """Close the root: paths can no longer be opened, files that are open stay open."""
        if self._root is not None:
            os.close(self._root)
            self._root = None

    def _parts(self, path: Path) -> tuple[str, ...]:
        if not path.is_relative_to(self.root):
            raise NotPermitted(f"{path} is not below {self.root}: give a path inside the store")
        parts = path.relative_to(self.root).parts
        if ".." in parts:
            raise NotPermitted(f"{path} leads out of {self.root}: give a path without '..'")
        return parts

    @contextlib.contextmanager
    def _inside(self, path: Path, parts: tuple[str, ...]) -> Generator[int]:
        """Open the directory that ``parts`` name, one after the other from the root."""
        if self._root is None:
            raise NotPermitted(f"the files below {self.root} were closed: open the lane again")
        descriptor = os.dup(self._root)
        try:
            for part in parts:
                try:
                    below = os.open(part, _DIRECTORY, dir_fd=descriptor)
                except OSError as error:
                    _refuse_link(error, descriptor, part, path)
                    raise
                os.close(descriptor)
                descriptor = below
                _check_owner(descriptor, path)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _parent(self, path: Path) -> Generator[tuple[int, str]]:
        """Open the directory of ``path``; yields its descriptor and the last part's name."""
        parts = self._parts(path)
        if not parts:
            raise NotPermitted(f"{path} is the root itself: give a path inside it")
        with self._inside(path, parts[:-1]) as descriptor:
            yield descriptor, parts[-1]

    def create(self, path: Path, mode: int | None = None) -> int:
        """Create a file that does not exist yet, for reading and writing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._parent(path) as (parent, name):
            if mode is not None:
                return os.open(name, flags, mode, dir_fd=parent)
            return permissions.open_new(
                os.fstat(parent), lambda own: os.open(name, flags, own, dir_fd=parent)
            )

    def open(self, path: Path, *, write: bool = False) -> int:
        """Open an existing file; NotPermitted when it is a link, no file, or another user's."""
        flags = os.O_RDWR if write else os.O_RDONLY
        with self._parent(path) as (parent, name):
            try:
                # a pipe would wait for its other end
                descriptor = os.open(
                    name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent
                )
            except OSError as error:
                _refuse_link(error, parent, name, path)
                raise
        try:
            _check_entry(path, os.fstat(descriptor), is_directory=False)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def lock(self, descriptor: int) -> bool:
        """Try for 2 s to take the exclusive lock.

        The store's owner may hold it for a moment, to find out whether the lane's writer lives.
        """
        end = time.monotonic() + _LOCK_S
        while not super().lock(descriptor):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def make_directory(self, path: Path) -> None:
        """Create a directory that does not exist yet; its parent must."""
        with self._parent(path) as (parent, name):
            above = os.fstat(parent)
            os.mkdir(name, permissions.directory_mode(above), dir_fd=parent)
            if permissions.is_shared(above):
                os.chmod(name, permissions.directory_mode(above), dir_fd=parent)

    def set_permissions(self, path: Path, mode: int) -> None:
        """Set the permissions of a file or directory, never of what a link leads to."""
        with self._inside(path, self._parts(path)) as descriptor:
            os.fchmod(descriptor, mode)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory survive a power loss."""
        with self._inside(path, self._parts(path)) as descriptor:
            os.fsync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over another, or a directory to a name not yet taken."""
        with self._parent(source) as (old, name), self._parent(target) as (new, wanted):
            os.replace(name, wanted, src_dir_fd=old, dst_dir_fd=new)

    def move_new(self, source: Path, target: Path) -> None:
        """Rename a file to a name that nothing has; FileExistsError when something does."""
        with self._parent(source) as (old, name), self._parent(target) as (new, wanted):
            os.link(name, wanted, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
            os.unlink(name, dir_fd=old)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        with self._parent(path) as (parent, name):
            os.unlink(name, dir_fd=parent)

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""
        with self._parent(path) as (parent, name):
            os.rmdir(name, dir_fd=parent)

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted; none when there is no such directory."""
        try:
            with self._inside(path, self._parts(path)) as descriptor:
                return sorted(os.listdir(descriptor))
        except FileNotFoundError:
            return []

    def exists(self, path: Path) -> bool:
        """Whether there is a file or directory of that name; a link counts as one."""
        return self._status(path) is not None

    def is_directory(self, path: Path) -> bool:
        """Whether the path is a directory, and not a symbolic link to one."""
        found = self._status(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def _status(self, path: Path) -> os.stat_result | None:
        with contextlib.suppress(FileNotFoundError), self._parent(path) as (parent, name):
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        return None

    def free_bytes(self, path: Path) -> int:
        """Return the bytes that an unprivileged process may still write."""
        with self._inside(path, self._parts(path)) as descriptor:
            found = os.fstatvfs(descriptor)
        return found.f_bavail * found.f_frsize

    def modified_s(self, path: Path) -> float:
        """Return when a file or directory was last changed, by the wall clock."""
        with self._parent(path) as (parent, name):
            return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime


def read_private_file(root: Path, name: str, *, most_bytes: int) -> bytes:
    """Return what a file that only this user can read holds.

    Nothing is read of a file that is a link, that others may read, or that is longer.

    Args:
        root: the directory; it may be reached through links.
        name: the file's name in it.
        most_bytes: how long the file may be.

    Raises:
        NotFound: there is no such directory.
        NotPermitted: the directory or the file belongs to another user; or the file is a link, no
            plain file, longer, or open to others by its mode.
        OSError: the file is not there or cannot be read.
    """
    files = RootedFiles(root)
    try:
        descriptor = files.open(files.root / name)
        try:
            found = os.fstat(descriptor)
            if found.st_mode & 0o077:
                raise NotPermitted(
                    f"{root / name} has mode {stat.S_IMODE(found.st_mode):04o}, so others can read "
                    "it; wanted 0600"
                )
            if found.st_size > most_bytes:
                raise NotPermitted(
                    f"{root / name} has {found.st_size} bytes, wanted at most {most_bytes}"
                )
            return os.read(descriptor, most_bytes)
        finally:
            os.close(descriptor)
    finally:
        files.disconnect()


def check_tree(directory: Path) -> None:
    """Raise NotPermitted unless a directory holds only directories and plain files of this user.

    Args:
        directory: the directory; all below it is checked too.

    Raises:
        NotPermitted: there is a link, a special file or another user's file; the message names it.
    """
    pending = [directory]
    while pending:
        current = pending.pop()
        _check_entry(current, current.lstat(), is_directory=True)
        with os.scandir(current) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # a writer replaced it just now
                    continue
                path = current / entry.name
                if stat.S_ISDIR(found.st_mode):
                    pending.append(path)
                else:
                    _check_entry(path, found, is_directory=False)


def _check_entry(path: Path, found: os.stat_result, *, is_directory: bool) -> None:
    is_right = stat.S_ISDIR if is_directory else stat.S_ISREG
    if not is_right(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no plain file or directory"
        raise NotPermitted(f"{path} is {kind}, which is never followed: remove it")
    if found.st_uid != os.geteuid():
        raise NotPermitted(_owner_message(path, found.st_uid))


def _refuse_link(error: OSError, parent: int, name: str, path: Path) -> None:
    """Raise NotPermitted in place of the error with which the system refused a link."""
    if error.errno not in (errno.ELOOP, errno.ENOTDIR):
        return
    mode = 0
    with contextlib.suppress(OSError):
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise NotPermitted(
            f"{name!r} on the way to {path} is a symbolic link, which is never followed: remove "
            "it, or write through the server"
        ) from error


def _check_owner(descriptor: int, path: Path) -> None:
    owner = os.fstat(descriptor).st_uid
    if owner != os.geteuid():
        raise NotPermitted(_owner_message(path, owner))


def _owner_message(path: Path, owner: int) -> str:
    return (
        f"{path} belongs to user {owner}, and this process runs as {os.geteuid()}: run both as one "
        "user, or write through the server"
    )
