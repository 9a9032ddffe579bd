"""The file operations that the store is built on.

The store reads and writes through a :class:`FileSystem` only. Object stores, files below one root,
and the disks of tests that lose power or fail (``isogloss.store.testing``) are subclasses of it.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import struct
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, IsoglossError, StorageError, StorageFull
from isogloss.store.disk import linux_calls, permissions

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that mean "no room", after which nothing is damaged."""

REQUESTS = 16
"""How many requests to an object store may run at once."""

_MAX_VECTOR = 512
_REMOVE_TRIES = 16
_LOCK = struct.Struct("@hhqqi4x")


NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""Errors of ``link(2)`` that mean "not on this file system"."""


class UncertainRecord(OSError):
    """It is not known whether a record was created, nor whether a request on its way still will."""


class FileSystem:
    """The operating system's own files. Every failure is an ``OSError``."""

    can_map = True
    """Whether descriptors are the system's own, so that files can be mapped into memory."""

    is_remote = False
    """Whether each operation is a request over the network, so that many at once are faster."""

    def create(self, path: Path, mode: int | None = None) -> int:
        """Create a file that does not exist yet, for reading and writing.

        Args:
            path: the file's path; its directory must exist.
            mode: the file's permissions, as in ``os.open``; None: those of its directory, without
                entering and without writing by others.

        Returns:
            The descriptor of the open file.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        if mode is not None:
            return os.open(path, flags, mode)
        return permissions.open_new(path.parent.stat(), lambda own: os.open(path, flags, own))

    def open(self, path: Path, *, write: bool = False) -> int:
        """Open an existing file."""
        return os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Write buffers one after the other from ``offset``: all of them, or an error."""
        pending = [view for view in map(_as_view, buffers) if len(view)]
        while pending:
            written = os.pwritev(descriptor, pending[:_MAX_VECTOR], offset)
            offset += written
            while written and written >= len(pending[0]):
                written -= len(pending.pop(0))
            if written:
                pending[0] = pending[0][written:]

    def read_into(self, descriptor: int, buffer: NDArray[np.uint8], offset: int) -> None:
        """Read bytes of a file, from ``offset`` on, until ``buffer`` is full.

        Args:
            descriptor: the open file.
            buffer: array to fill.
            offset: position of the first byte in the file.

        Raises:
            CorruptData: the file ends before the buffer is full.
        """
        view = _as_view(buffer)
        while len(view):
            count = os.preadv(descriptor, [view], offset)
            if count == 0:
                raise CorruptData(f"file ends at {offset}, {len(view)} bytes too early")
            offset += count
            view = view[count:]

    def sync_data(self, descriptor: int) -> None:
        """Make the file's bytes and size survive a power loss.

        Raises:
            OSError: the bytes could not be written; or the file has no name any more, so that
                nobody will find them.
        """
        os.fdatasync(descriptor)
        _check_named(descriptor)

    def sync_together(self, descriptors: Sequence[int]) -> None:
        """Make several files survive a power loss.

        They may come to the disk in any order. When one fails, the others may or may not be
        durable.

        Raises:
            OSError: as for :meth:`sync_data`.
        """
        linux_calls.sync_together(descriptors)
        for descriptor in descriptors:
            _check_named(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut the file, or extend it with zeros."""
        os.ftruncate(descriptor, length)

    def allocate(self, descriptor: int, length: int) -> None:
        """Extend the file with zeros to ``length``, its blocks reserved where that is possible.

        A sync of rows that are written there later need not record a new length or new blocks: an
        append of 96 KiB with both its syncs took 0.62 ms instead of 0.71.
        """
        linux_calls.reserve(descriptor, length)

    def start_sync(self, descriptor: int, offset: int, length: int) -> None:
        """Let the system begin to write bytes to the disk. Promises nothing and raises nothing.

        Only :meth:`sync_data` makes the bytes durable, and it also reports what fails here.
        """
        linux_calls.start_writing(descriptor, offset, length)

    def size(self, descriptor: int) -> int:
        """Return the file's length in bytes."""
        return os.fstat(descriptor).st_size

    def drop_cache(self, descriptor: int) -> None:
        """Forget cached pages, so that the next read comes from the disk."""
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def lock(self, descriptor: int) -> bool:
        """Try to take the exclusive lock of a file open for writing; freed when it is closed.

        An open-file-description lock: unlike a POSIX lock it is not lost when another descriptor
        of the same file is closed, and unlike ``flock`` it holds over NFS.
        """
        request = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def is_locked(self, descriptor: int) -> bool:
        """Whether another open file description holds the exclusive lock; takes none itself."""
        request = _LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, request)
        return bool(_LOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def make_directory(self, path: Path) -> None:
        """Create a directory that does not exist yet, with its parent's permissions."""
        above = path.parent.stat()
        path.mkdir(permissions.directory_mode(above))
        if permissions.is_shared(above):  # whatever this process's umask is
            path.chmod(permissions.directory_mode(above))

    def set_permissions(self, path: Path, mode: int) -> None:
        """Set the permissions of a file or directory, where there are such."""
        path.chmod(mode)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory survive a power loss."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over another file, or a directory to a name that is not taken."""
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name; FileExistsError where that is taken. Safe over NFS too."""
        os.link(source, target, follow_symlinks=False)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, sorted; none when there is no such directory."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(path))
        return []

    def exists(self, path: Path) -> bool:
        """Whether there is a file or directory of that name."""
        return path.exists()

    def is_directory(self, path: Path) -> bool:
        """Whether the path is a directory, and not a symbolic link to one."""
        return path.is_dir() and not path.is_symlink()

    def free_bytes(self, path: Path) -> int:
        """Return the bytes that an unprivileged process may still write."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def modified_s(self, path: Path) -> float:
        """Return when a file or directory was last changed, by the wall clock."""
        return path.stat().st_mtime

    def monotonic_s(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    def time_s(self) -> float:
        """Return the wall clock in seconds since 1970; may run backwards."""
        return time.time()

    def read_whole(self, path: Path) -> bytes:
        """Return all bytes of a file."""
        descriptor = self.open(path)
        try:
            return read_range(self, descriptor, 0, self.size(descriptor)).tobytes()
        finally:
            self.close(descriptor)

    def write_atomic(self, path: Path, content: bytes) -> None:
        """Replace a small file; after any crash it is the old one, or all of the new one.

        For files that one process writes: the temporary name is always the same.
        """
        partial = path.with_name(f".{path.name}.partial")
        with contextlib.suppress(FileNotFoundError):
            self.remove(partial)
        write_new(self, partial, [content])
        self.replace(partial, path)
        self.sync_directory(path.parent)

    def write_whole(self, path: Path, pieces: Iterable[Buffer], *, mode: int | None = None) -> None:
        """Replace a file's content, or create the file, so that a crash never leaves half of it.

        The bytes go to a file of a random name first, which is synced and renamed; then the
        directory is synced. After a crash at any moment ``path`` is what it was before, or holds
        all the new bytes.

        Args:
            path: the file.
            pieces: the file's bytes, in order.
            mode: the file's permissions, as in ``os.open``; None: see :meth:`create`.

        Raises:
            OSError: the bytes could not be written or synced; ``path`` is what it was before,
                unless only the last sync failed.
        """
        partial = _partial(path)
        try:
            descriptor = self.create(partial, mode)
            try:
                offset = 0
                for piece in pieces:
                    self.write(descriptor, [piece], offset)
                    offset += len(piece)
                self.sync_data(descriptor)
            finally:
                self.close(descriptor)
            self.replace(partial, path)
        except OSError:
            _discard(self, partial)
            raise
        self.sync_directory(path.parent)

    def create_record(self, path: Path, content: bytes, *, look: bool = True) -> None:
        """Create a file, complete and durable, under a name that must be free.

        Of any number of writers, on any machines, one succeeds. If the file is there already and
        holds ``content``, that counts as success: a file server may repeat a request whose answer
        was lost. So the content must differ from that of every other writer.

        Args:
            path: the record's path.
            content: all bytes of the record.
            look: whether to compare the contents when the name is taken. If not, an equal file
                counts as another writer's too.

        Raises:
            FileExistsError: another writer's record has that name.
            UncertainRecord: it is not known whether the record was created.
        """
        partial = _partial(path)
        try:
            write_new(self, partial, [content])
        except OSError:
            _discard(self, partial)
            raise
        try:
            self.link(partial, path)
        except FileExistsError:
            _discard(self, partial)
            if not look or self.read_whole(path) != content:
                raise
        except OSError as error:
            _discard(self, partial)
            if error.errno in NO_LINKS:
                raise
            raise UncertainRecord(errno.EIO, f"record {path} is uncertain: {error}") from error
        try:
            self.sync_directory(path.parent)
        except OSError as error:
            raise UncertainRecord(errno.EIO, f"record {path} is uncertain: {error}") from error
        _discard(self, partial)

    def remove_tree(self, path: Path) -> None:
        """Remove a file, or a directory and all below it; what is already gone is no error.

        A file that comes while this removes others, as a reader's cache of statistics, goes too.
        """
        for _ in range(_REMOVE_TRIES):
            try:
                self._remove_tree(path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
            else:
                return
        self._remove_tree(path)

    def _remove_tree(self, path: Path) -> None:
        if not self.is_directory(path) and self.exists(path):
            with contextlib.suppress(FileNotFoundError):
                self.remove(path)
            return
        for name in self.names(path):
            child = path / name
            if self.is_directory(child):
                self.remove_tree(child)
            else:
                with contextlib.suppress(FileNotFoundError):
                    self.remove(child)
        with contextlib.suppress(FileNotFoundError):
            self.remove_directory(path)


def _check_named(descriptor: int) -> None:
    """Raise OSError for an open file that was deleted: what is written to it is lost."""
    if os.fstat(descriptor).st_nlink == 0:
        raise OSError(
            errno.ESTALE,
            "the file was deleted while it was written: restore it from a backup, or find out who "
            "deletes a store's files",
        )


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _discard(files: FileSystem, path: Path) -> None:
    with contextlib.suppress(OSError):
        files.remove(path)


@contextlib.contextmanager
def storage_errors(what: str) -> Generator[None]:
    """Return a context manager that turns an ``OSError`` from its block into one of our errors.

    FileNotFoundError and the errors of :mod:`isogloss.errors` pass unchanged: the caller knows what
    a missing file means.

    Args:
        what: start of the error's message, such as ``"lane 'x' cannot be created"``.

    Raises:
        StorageFull: the disk, a quota or the largest file size was full.
        StorageError: another OSError came.
        FileNotFoundError: the block raised it.
        IsoglossError: the block raised it.
    """
    try:
        yield
    except (IsoglossError, FileNotFoundError):
        raise
    except OSError as error:
        if error.errno in FULL_ERRNOS:
            raise StorageFull(f"{what}: no room ({error}); free space and try again") from error
        raise StorageError(f"{what}: {error}") from error


def _as_view(buffer: Buffer) -> memoryview:
    return memoryview(buffer).cast("B")  # pyright: ignore[reportArgumentType] - numpy declares no __buffer__ before 3.12


class OpenFile:
    """A descriptor that is closed when the object is garbage."""

    def __init__(self, files: FileSystem, path: Path) -> None:
        self._files = files
        self.descriptor = files.open(path)
        """The open file."""

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self._files.close(self.descriptor)


def read_range(files: FileSystem, descriptor: int, offset: int, length: int) -> NDArray[np.uint8]:
    """Read ``length`` bytes from ``offset``; CorruptData when the file ends before."""
    buffer = np.empty(length, np.uint8)
    files.read_into(descriptor, buffer, offset)
    return buffer


def for_each(
    files: FileSystem, work: Callable[[_Item], _Made], items: Sequence[_Item]
) -> list[_Made]:
    """Call ``work`` for each item; many at once in threads where the files are remote."""
    if not files.is_remote or len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(REQUESTS, len(items)), "isogloss-requests") as pool:
        return list(pool.map(work, items))


def write_new(files: FileSystem, path: Path, buffers: Sequence[Buffer]) -> None:
    """Create a file, write it and sync its bytes. The caller syncs the directory."""
    descriptor = files.create(path)
    try:
        files.write(descriptor, buffers, 0)
        files.sync_data(descriptor)
    finally:
        files.close(descriptor)


def create_if_missing(path: Path) -> None:
    """Create an empty file with the permissions of its directory; nothing where there is one.

    For files that a library opens or makes with permissions of its own.
    """
    files = FileSystem()
    if not files.exists(path):
        with contextlib.suppress(FileExistsError):
            files.close(files.create(path))


def make_directories(files: FileSystem, path: Path) -> None:
    """Create a directory and its missing parents, and sync each parent.

    Nothing is synced where it is there already: its maker may have been killed before it was
    durable, so who builds on it alone syncs the directory above.
    """
    if files.is_remote or files.exists(path):
        return
    make_directories(files, path.parent)
    with contextlib.suppress(FileExistsError):
        files.make_directory(path)
    files.sync_directory(path.parent)


def read_files(files: FileSystem, paths: Sequence[Path]) -> Iterator[bytes]:
    """Yield the contents of files in order; on remote files a few are read ahead."""
    for start in range(0, len(paths), REQUESTS):
        yield from for_each(files, files.read_whole, paths[start : start + REQUESTS])


def sync_and_drop_cache(files: FileSystem, descriptor: int) -> None:
    """Sync an open file and forget its cached pages: the next read comes from the disk."""
    files.sync_data(descriptor)
    files.drop_cache(descriptor)


def write_file_durably(
    path: Path, content: bytes, *, mode: int | None = None, files: FileSystem | None = None
) -> None:
    """Write or replace a small file so that it survives a loss of power once this returns.

    The content goes to a file of a random name beside it, which is synced and renamed; then the
    directory is synced. After a crash ``path`` is what it was before, or all of ``content``.

    Args:
        path: the file's path; its directory must exist.
        content: all bytes of the file.
        mode: the file's permissions, as in ``os.open``; ``0o600`` for secrets. None: those of its
            directory, without entering and without writing by others.
        files: file operations to use; by default those of the operating system.

    Raises:
        StorageFull: the disk is full; ``path`` is what it was.
        StorageError: writing failed; ``path`` is what it was, or all of ``content``.
    """
    with storage_errors(f"{path} cannot be written"):
        (files or FileSystem()).write_whole(path, [content], mode=mode)
