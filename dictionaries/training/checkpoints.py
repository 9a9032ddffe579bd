"""Checkpoints of a training run: directories written whole, then named by a manifest.

A checkpoint is ``<directory>/step-<n>/`` with ``state.safetensors`` and ``state.json``. It is
written under a temporary name, made durable, renamed, and only then named, with the sha256 of each
file, in ``<directory>/checkpoints.json``. A kill at any moment leaves the manifest naming whole
checkpoints; what it does not name is swept away at the next start.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from torch import Tensor

from isogloss.dictionaries.files import (
    check_sha256,
    make_directory,
    read_json,
    read_tensors,
    sha256_of,
    sync_directory,
    write_json,
    write_tensors,
)
from isogloss.errors import (
    Conflict,
    CorruptData,
    StorageError,
    StorageFull,
    UnsupportedVersion,
)

VERSION = 1
KEPT = 2
"""Checkpoints kept: the newest, and the one before should the newest be damaged."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MANIFEST = "checkpoints.json"
_LOCK = "checkpoints.lock"
_TENSORS = "state.safetensors"
_STATE = "state.json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint:
    """All a run needs to go on as if it had never stopped."""

    step: int
    """Optimiser steps done."""
    state: Mapping[str, object]
    """Everything that is not a tensor; JSON, in which floats round-trip exactly."""
    tensors: Mapping[str, Tensor]
    """Weights, moments and counters by name."""


class CheckpointDirectory:
    """The checkpoints of one run; hold :func:`exclusive` while using it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and name it in the manifest; durable when it returns.

        Keeps the newest ``KEPT`` checkpoints and removes the others. Where it fails, those that
        were named before still are, and what was half written is removed.

        Raises:
            StorageFull: it does not fit on the disk.
            StorageError: it cannot be written.
        """
        try:
            self._write(checkpoint)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError, CorruptData):
                self.sweep()
            raise self._refusal(checkpoint, error) from error

    def _refusal(self, checkpoint: Checkpoint, error: Exception) -> StorageError:
        """Say why a checkpoint was not written, and where the run goes on from."""
        wanted = sum(
            tensor.numel() * tensor.element_size() for tensor in checkpoint.tensors.values()
        )
        entries = self._entries()
        before = f"step {entries[0]['step']}" if entries else "its start"
        found = f"the checkpoint of step {checkpoint.step} was not written to {self._directory}"
        rest = f"train again and the run goes on from {before}"
        # safetensors gives the number of an operating system's error in its text alone
        full = isinstance(error, OSError) and error.errno in _FULL
        if full or any(f"(os error {number})" in str(error) for number in _FULL):
            free = shutil.disk_usage(self._directory).free
            return StorageFull(
                f"{found}: it takes {wanted / 2**20:,.1f} MiB, {free / 2**20:,.1f} MiB are free, "
                f"and a limit or quota may be lower ({error}); free some space, {rest}"
            )
        return StorageError(f"{found} ({error}); {rest}")

    def _write(self, checkpoint: Checkpoint) -> None:
        name = f"step-{checkpoint.step:012d}"
        temporary = self._directory / f".{name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        make_directory(temporary)
        files = {_TENSORS: write_tensors(temporary / _TENSORS, checkpoint.tensors)}
        write_json(temporary / _STATE, checkpoint.state)
        files[_STATE] = sha256_of(temporary / _STATE)
        final = self._directory / name
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        sync_directory(self._directory)
        entry: dict[str, object] = {"name": name, "step": checkpoint.step, "files": files}
        older = [kept for kept in self._entries() if kept["name"] != name]
        write_json(
            self._directory / _MANIFEST,
            {"version": VERSION, "checkpoints": [entry, *older][:KEPT]},
        )
        self.sweep()

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint whose bytes are whole; None when the run has none yet.

        Raises:
            CorruptData: checkpoints are named but none of them is whole.
            UnsupportedVersion: a newer release wrote the manifest.
        """
        entries = self._entries()
        for entry in entries:
            try:
                return self._read(entry)
            except CorruptData as error:
                _LOG.warning("skipping a damaged checkpoint: %s", error)
        if entries:
            raise CorruptData(
                f"none of the {len(entries)} checkpoints in {self._directory} is whole; delete the "
                "directory to train from the start"
            )
        return None

    def sweep(self) -> None:
        """Remove what the manifest does not name: older checkpoints and half-written ones."""
        named = {str(entry["name"]) for entry in self._entries()}
        for path in self._directory.iterdir():
            if path.name.startswith((".step-", "step-")) and path.name not in named:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            elif path.name.startswith(f".{_MANIFEST}"):
                path.unlink()

    def _entries(self) -> list[Mapping[str, object]]:
        path = self._directory / _MANIFEST
        try:
            manifest = read_json(path)
        except FileNotFoundError:
            return []
        if manifest.get("version") != VERSION:
            raise UnsupportedVersion(
                f"{path} has version {manifest.get('version')!r}; this release reads {VERSION}; "
                "resume with the release that wrote it or delete the directory"
            )
        entries = manifest.get("checkpoints")
        if not isinstance(entries, list):
            raise CorruptData(f"{path} lists no checkpoints; delete {self._directory}")
        return [_as_entry(path, entry) for entry in cast("list[object]", entries)]

    def _read(self, entry: Mapping[str, object]) -> Checkpoint:
        directory = self._directory / str(entry["name"])
        files = cast("Mapping[str, object]", entry["files"])
        check_sha256(directory / _STATE, files.get(_STATE))
        return Checkpoint(
            step=cast("int", entry["step"]),
            state=read_json(directory / _STATE),
            tensors=read_tensors(directory / _TENSORS, files.get(_TENSORS)),
        )


@contextmanager
def exclusive(directory: Path, wait_s: float = 10.0) -> Generator[CheckpointDirectory, None, None]:
    """Lock a run's directory, created if missing, against other processes.

    The lock ends with the process that holds it, however it ends.

    Args:
        directory: directory of the run.
        wait_s: how many seconds to wait for another process that is just ending.

    Raises:
        Conflict: another process holds the lock.
    """
    make_directory(directory)
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, directory, wait_s)
        checkpoints = CheckpointDirectory(directory)
        checkpoints.sweep()
        yield checkpoints
    finally:
        os.close(descriptor)


def remove_checkpoints(directory: Path) -> None:
    """Remove the checkpoints of a finished run; other files of the directory stay.

    Raises:
        Conflict: another process trains here.
    """
    if not directory.is_dir():
        return
    with exclusive(directory, wait_s=0.0):
        (directory / _MANIFEST).unlink(missing_ok=True)
        sync_directory(directory)
        CheckpointDirectory(directory).sweep()
    (directory / _LOCK).unlink(missing_ok=True)


def _lock(descriptor: int, directory: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Conflict(
                    f"another process trains in {directory}; wait for it, cancel its job, or train "
                    "into another directory"
                ) from None
            time.sleep(0.05)


def _as_entry(path: Path, entry: object) -> Mapping[str, object]:
    if isinstance(entry, Mapping):
        found = cast("Mapping[str, object]", entry)
        name, step, files = found.get("name"), found.get("step"), found.get("files")
        # the name must be the step's: never a path out of the directory
        if isinstance(step, int) and name == f"step-{step:012d}" and isinstance(files, Mapping):
            return found
    raise CorruptData(f"{path} names {entry!r}; wanted name, step and files: delete the directory")
