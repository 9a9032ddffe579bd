"""Limits: how many rows and bytes a recording may have, checked before batches are accepted."""

from dataclasses import dataclass
from pathlib import Path

from isogloss.errors import InvalidInput, StorageFull
from isogloss.store.disk.filesystem import FileSystem


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneLimits:
    """How much a lane may grow. Checked before each group of batches is accepted."""

    max_rows: int | None = None
    """Rows of the whole recording; None for no limit."""

    max_bytes: int | None = None
    """Bytes of the whole recording's activations; None for no limit."""

    free_bytes: int = 64 << 20
    """Bytes that must stay free on the disk, so that catalog and logs can go on."""

    def __post_init__(self) -> None:
        for name, value in (("max_rows", self.max_rows), ("max_bytes", self.max_bytes)):
            if value is not None and value < 0:
                raise InvalidInput(f"{name} {value} must be at least 0, or None for no limit")
        if self.free_bytes < 0:
            raise InvalidInput(f"free_bytes {self.free_bytes} must be at least 0")

    def check(
        self, files: FileSystem, directory: Path, *, rows: int, row_bytes: int, more_rows: int
    ) -> None:
        """Raise StorageFull for rows that would pass a limit.

        Args:
            files: the file system that the recording is on.
            directory: the lane's directory.
            rows: rows of the recording so far.
            row_bytes: bytes of one row over all sites and token columns.
            more_rows: rows that are to be added.

        Raises:
            StorageFull: a limit would be passed; nothing was accepted.
        """
        wanted = rows + more_rows
        if self.max_rows is not None and wanted > self.max_rows:
            raise StorageFull(
                f"{wanted} rows would pass the limit of {self.max_rows}: raise it, or retire lanes"
            )
        if self.max_bytes is not None and wanted * row_bytes > self.max_bytes:
            raise StorageFull(
                f"{wanted * row_bytes} bytes would pass the limit of {self.max_bytes}: raise it, "
                "or retire lanes"
            )
        free = files.free_bytes(directory)
        if free - more_rows * row_bytes < self.free_bytes:
            raise StorageFull(
                f"{free} bytes are free and {more_rows * row_bytes} are needed: {self.free_bytes} "
                "must stay free; make room"
            )
