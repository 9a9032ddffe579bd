"""Real files whose n-th operation fails."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.store.disk.filesystem import Buffer, FileSystem

WRITES = frozenset({"create", "write", "truncate", "allocate", "make_directory"})
SYNCS = frozenset({"sync_data", "sync_directory"})


class FaultyFiles(FileSystem):
    """The operating system's files, of which one operation fails.

    Args:
        fail_at: number of the counted operation that fails, from 1; 0: none fails.
        error: the errno of the failure.
        operations: names of the operations that are counted.
        lasting: whether all later operations fail too.
        after: called before the failure is raised, such as to write half of a buffer.
    """

    def __init__(
        self,
        *,
        fail_at: int = 0,
        error: int = errno.EIO,
        operations: frozenset[str] = WRITES | SYNCS,
        lasting: bool = False,
        after: Callable[[str], None] | None = None,
    ) -> None:
        self.fail_at = fail_at
        self.error = error
        self.operations = operations
        self.lasting = lasting
        self.count = 0
        """Operations counted so far."""
        self.calls: Counter[str] = Counter()
        """Every operation, by name."""
        self._after = after

    def _step(self, operation: str) -> None:
        self.calls[operation] += 1
        if operation not in self.operations:
            return
        self.count += 1
        if self.fail_at and (
            self.count == self.fail_at or (self.lasting and self.count > self.fail_at)
        ):
            if self._after is not None:
                self._after(operation)
            raise OSError(self.error, os.strerror(self.error))

    def create(self, path: Path, mode: int | None = None) -> int:
        """See FileSystem."""
        self._step("create")
        return super().create(path, mode)

    def open(self, path: Path, *, write: bool = False) -> int:
        """See FileSystem."""
        self._step("open")
        return super().open(path, write=write)

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        """See FileSystem; a write that fails leaves half of its first buffer behind."""
        try:
            self._step("write")
        except OSError:
            half = bytes(buffers[0])[: len(buffers[0]) // 2]
            super().write(descriptor, [half], offset)
            raise
        super().write(descriptor, buffers, offset)

    def read_into(self, descriptor: int, buffer: NDArray[np.uint8], offset: int) -> None:
        """See FileSystem."""
        self._step("read_into")
        super().read_into(descriptor, buffer, offset)

    def sync_data(self, descriptor: int) -> None:
        """See FileSystem."""
        self._step("sync_data")
        super().sync_data(descriptor)

    def sync_together(self, descriptors: Sequence[int]) -> None:
        """See FileSystem; each is an operation."""
        for descriptor in descriptors:
            self.sync_data(descriptor)

    def sync_directory(self, path: Path) -> None:
        """See FileSystem."""
        self._step("sync_directory")
        super().sync_directory(path)

    def truncate(self, descriptor: int, length: int) -> None:
        """See FileSystem."""
        self._step("truncate")
        super().truncate(descriptor, length)

    def allocate(self, descriptor: int, length: int) -> None:
        """See FileSystem."""
        self._step("allocate")
        super().allocate(descriptor, length)

    def make_directory(self, path: Path) -> None:
        """See FileSystem."""
        self._step("make_directory")
        super().make_directory(path)

    def replace(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        self._step("replace")
        super().replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        """See FileSystem."""
        self._step("link")
        super().link(source, target)
