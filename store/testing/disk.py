"""A disk in memory that can lose power, fail a sync, and show what then is left.

Stricter than a journaling file system: without its own sync nothing is promised, neither a byte
written, nor a name in a directory, nor their order.
"""

import errno
import itertools
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData
from isogloss.store.disk.filesystem import Buffer, FileSystem

Survival = Literal["dropped", "kept", "mixed"]
Ignore = Callable[[str, Path], bool] | None
"""Called with an operation and a path: True lets it do nothing. None ignores no operation."""


def removed(operation: str, wanted: Callable[[Path], bool]) -> Ignore:
    """Return an :data:`Ignore` that ignores one operation on the paths that are ``wanted``."""
    return lambda what, path: what == operation and wanted(path)


class PowerLoss(BaseException):
    """The power went. A BaseException, so that no code of the store catches it and goes on."""


@dataclass(slots=True, eq=False)
class _File:
    """Bytes as the page cache shows them, as the disk holds them, and the writes not yet synced."""

    cache: bytearray = field(default_factory=bytearray)
    disk: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list[tuple[int, bytes | None]])


@dataclass(slots=True, eq=False)
class _Directory:
    """Names as processes see them, and as the disk holds them."""

    names: dict[str, "_File | _Directory"] = field(default_factory=dict[str, "_File | _Directory"])
    disk: dict[str, "_File | _Directory"] = field(default_factory=dict[str, "_File | _Directory"])


def _apply(content: bytearray, offset: int, piece: bytes | None) -> None:
    """Write a piece, or cut and extend to ``offset`` where it is None."""
    if piece is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(piece)] = piece


class SimulatedDisk(FileSystem):
    """A whole file system in memory.

    Args:
        stop_at: operation, counted from 1, at which the power goes; 0 for never.
        fail_sync_at: sync of a file, counted from 1, that fails; its writes are lost and the page
            cache still shows them, as Linux does. 0 for none.
        ignore: says of an operation and a path whether it does nothing (a removed sync).
    """

    can_map = False

    def __init__(
        self,
        *,
        stop_at: int = 0,
        fail_sync_at: int = 0,
        ignore: Ignore = None,
    ) -> None:
        self.stop_at = stop_at
        self.fail_sync_at = fail_sync_at
        self.ignore = ignore
        self.operations = 0
        """Operations that changed something so far."""
        self.trace: list[tuple[str, Path]] = []
        """Each of those operations and its path."""
        self.syncs = 0
        """Syncs of files so far."""
        self._root = _Directory()
        self._descriptors: dict[int, tuple[_File, Path]] = {}
        self._locks: dict[int, int] = {}
        self._numbers = itertools.count(1000)
        self._clock = 0.0
        self._is_off = False

    def _tick(self, operation: str, path: Path) -> bool:
        """Count an operation; return whether it does something."""
        if self._is_off:
            raise PowerLoss
        self.operations += 1
        self.trace.append((operation, path))
        if self.operations == self.stop_at:
            self._is_off = True
            raise PowerLoss
        return self.ignore is None or not self.ignore(operation, path)

    def _directory(self, path: Path) -> _Directory:
        node: _File | _Directory = self._root
        for part in path.parts[1:]:
            if not isinstance(node, _Directory) or part not in node.names:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            node = node.names[part]
        if not isinstance(node, _Directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return node

    def _file(self, path: Path) -> _File:
        node = self._directory(path.parent).names.get(path.name)
        if not isinstance(node, _File):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return node

    def _new_descriptor(self, file: _File, path: Path) -> int:
        descriptor = next(self._numbers)
        self._descriptors[descriptor] = (file, path)
        return descriptor

    def create(self, path: Path, mode: int | None = None) -> int:
        """See FileSystem."""
        self._tick("create", path)
        names = self._directory(path.parent).names
        if path.name in names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        file = _File()
        names[path.name] = file
        return self._new_descriptor(file, path)

    def open(self, path: Path, *, write: bool = False) -> int:
        """See FileSystem."""
        return self._new_descriptor(self._file(path), path)

    def close(self, descriptor: int) -> None:
        """See FileSystem."""
        file, _ = self._descriptors.pop(descriptor)
        if self._locks.get(id(file)) == descriptor:
            del self._locks[id(file)]

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        """See FileSystem."""
        file, path = self._descriptors[descriptor]
        self._tick("write", path)
        for buffer in buffers:
            piece = bytes(buffer)
            _apply(file.cache, offset, piece)
            file.pending.append((offset, piece))
            offset += len(piece)

    def read_into(self, descriptor: int, buffer: NDArray[np.uint8], offset: int) -> None:
        """See FileSystem."""
        if self._is_off:
            raise PowerLoss
        file, path = self._descriptors[descriptor]
        if offset + len(buffer) > len(file.cache):
            raise CorruptData(f"file {path} ends at {len(file.cache)}")
        buffer[:] = np.frombuffer(file.cache, np.uint8, len(buffer), offset)

    def sync_data(self, descriptor: int) -> None:
        """See FileSystem."""
        file, path = self._descriptors[descriptor]
        if not self._tick("sync_data", path):
            return
        self.syncs += 1
        if self.syncs == self.fail_sync_at:
            file.pending = []
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        for offset, piece in file.pending:
            _apply(file.disk, offset, piece)
        file.pending = []

    def sync_together(self, descriptors: Sequence[int]) -> None:
        """See FileSystem.

        The files are synced in any order, the power may go between any two, and all are synced
        although one fails.
        """
        failed: OSError | None = None
        order = random.Random(self.operations).sample(descriptors, len(descriptors))
        for descriptor in order:
            try:
                self.sync_data(descriptor)
            except OSError as error:
                failed = error
        if failed is not None:
            raise failed

    def drop_cache(self, descriptor: int) -> None:
        """See FileSystem."""
        file, path = self._descriptors[descriptor]
        if self.ignore is not None and self.ignore("drop_cache", path):
            return
        file.cache = bytearray(file.disk)
        for offset, piece in file.pending:
            _apply(file.cache, offset, piece)

    def truncate(self, descriptor: int, length: int) -> None:
        """See FileSystem."""
        file, path = self._descriptors[descriptor]
        self._tick("truncate", path)
        _apply(file.cache, length, None)
        file.pending.append((length, None))

    def allocate(self, descriptor: int, length: int) -> None:
        """See FileSystem."""
        self.truncate(descriptor, max(length, self.size(descriptor)))

    def start_sync(self, descriptor: int, offset: int, length: int) -> None:
        """See FileSystem; a hint, which this disk does not take."""

    def size(self, descriptor: int) -> int:
        """See FileSystem."""
        return len(self._descriptors[descriptor][0].cache)

    def lock(self, descriptor: int) -> bool:
        """See FileSystem."""
        file, path = self._descriptors[descriptor]
        if self.ignore is not None and self.ignore("lock", path):
            return True
        return self._locks.setdefault(id(file), descriptor) == descriptor

    def is_locked(self, descriptor: int) -> bool:
        """See FileSystem."""
        holder = self._locks.get(id(self._descriptors[descriptor][0]))
        return holder is not None and holder != descriptor

    def make_directory(self, path: Path) -> None:
        """See FileSystem."""
        self._tick("make_directory", path)
        names = self._directory(path.parent).names
        if path.name in names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        names[path.name] = _Directory()

    def set_permissions(self, path: Path, mode: int) -> None:
        """Do nothing: this disk has no users."""

    def sync_directory(self, path: Path) -> None:
        """See FileSystem."""
        if self._tick("sync_directory", path):
            directory = self._directory(path)
            directory.disk = dict(directory.names)

    def replace(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        self._tick("replace", target)
        names = self._directory(target.parent).names
        there = names.get(target.name)
        if isinstance(there, _Directory) and there.names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(target))
        moved = self._directory(source.parent).names.pop(source.name, None)
        if moved is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
        names[target.name] = moved

    def link(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        self._tick("link", target)
        file = self._file(source)
        names = self._directory(target.parent).names
        if target.name in names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        names[target.name] = file

    def remove(self, path: Path) -> None:
        """See FileSystem."""
        self._tick("remove", path)
        self._file(path)
        del self._directory(path.parent).names[path.name]

    def remove_directory(self, path: Path) -> None:
        """See FileSystem."""
        self._tick("remove_directory", path)
        if self._directory(path).names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        del self._directory(path.parent).names[path.name]

    def names(self, path: Path) -> list[str]:
        """See FileSystem."""
        try:
            return sorted(self._directory(path).names)
        except FileNotFoundError:
            return []

    def exists(self, path: Path) -> bool:
        """See FileSystem."""
        try:
            return path.name in self._directory(path.parent).names
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_directory(self, path: Path) -> bool:
        """See FileSystem."""
        return self.exists(path) and isinstance(
            self._directory(path.parent).names[path.name], _Directory
        )

    def free_bytes(self, path: Path) -> int:
        """See FileSystem; there is always room."""
        return 1 << 50

    def modified_s(self, path: Path) -> float:
        """See FileSystem; everything is new."""
        return self.time_s()

    def monotonic_s(self) -> float:
        """See FileSystem; a second passes between any two looks."""
        self._clock += 1
        return self._clock

    def time_s(self) -> float:
        """See FileSystem; runs backwards."""
        return 1e9 - self._clock

    def after_power_loss(self, survival: Survival, seed: int = 0) -> "SimulatedDisk":
        """Return the disk as it may be found after a power loss.

        Args:
            survival: what happens to writes and names that were not synced: all are dropped, all
                are kept, or each is kept or dropped at random, and writes may be kept in part.
            seed: seed of the random choice.

        Returns:
            Another disk; this one does not change.
        """
        chance = random.Random(seed)
        survivor = SimulatedDisk()
        survivor._root = self._survive(self._root, survival, chance, {})
        return survivor

    def after_kill(self) -> "SimulatedDisk":
        """Return what another process finds after this one was killed: all that was written."""
        survivor = SimulatedDisk()
        survivor._root = self._root  # another view of the same disk
        return survivor

    def _survive(
        self,
        directory: _Directory,
        survival: Survival,
        chance: random.Random,
        files: dict[int, _File],
    ) -> _Directory:
        names: dict[str, _File | _Directory] = {}
        for name in sorted(directory.disk.keys() | directory.names.keys()):
            old, new = directory.disk.get(name), directory.names.get(name)
            keeps_new = survival == "kept" or (survival == "mixed" and chance.random() < 0.5)
            node = new if keeps_new else old
            if isinstance(node, _Directory):
                names[name] = self._survive(node, survival, chance, files)
            elif node is not None:
                if id(node) not in files:
                    files[id(node)] = _survive_file(node, survival, chance)
                names[name] = files[id(node)]
        return _Directory(names=names, disk=dict(names))


def _survive_file(file: _File, survival: Survival, chance: random.Random) -> _File:
    content = bytearray(file.disk)
    for offset, piece in file.pending:
        if survival == "dropped" or (survival == "mixed" and chance.random() < 0.5):
            continue
        torn = survival == "mixed" and piece is not None and chance.random() < 0.5
        kept = piece[: chance.randrange(len(piece) + 1)] if torn and piece is not None else piece
        _apply(content, offset, kept)
    return _File(cache=bytearray(content), disk=content)
