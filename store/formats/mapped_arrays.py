"""Arrays of one chunk each, which are looked at where they lie instead of being read.

A chunk file holds the array's bytes from its beginning and their CRC-32C behind them, so that an
array of one chunk is valid zarr and can be mapped into memory. Pages come as they are touched, are
shared by all processes that map the file, and stay when the file is replaced or removed meanwhile.
Where a disk cannot read a mapped page the process ends with SIGBUS: map what is derived and small
enough to be checked first, never recordings.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, NotFound
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.formats.zarr_arrays import ArrayFile, GroupWriter, read_attributes

_CHECKSUM_BYTES = 4


class MappedArray:
    """An array of one chunk, mapped read-only; it is checked when it is asked for."""

    def __init__(self, directory: Path) -> None:
        """Map the array in a directory; the file may be replaced or removed from then on.

        Args:
            directory: the array's directory, within a group that :func:`write_mappable` wrote.

        Raises:
            NotFound: there is no array in the directory.
            CorruptData: its metadata cannot be read.
        """
        file = ArrayFile(FileSystem(), directory)
        self._name, self._shape, self._dtype = directory.name, file.shape, file.dtype
        self._size = file.rows * file.row_bytes
        self._is_checked = False
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)
        path = file.chunk_path(0)
        if self._size and file.chunk_rows == file.rows and path.exists():
            try:
                self._bytes = np.asarray(np.memmap(path, np.uint8, "r"))
            except FileNotFoundError as error:
                raise NotFound(f"array {self._name!r} was removed just now") from error
            except ValueError:  # an empty file cannot be mapped; it is told as too short
                pass

    def checked(self) -> NDArray[np.generic]:
        """Return the array, read-only; the first call reads all of it and compares its checksum.

        Raises:
            CorruptData: it has several chunks, is cut short, or does not match its checksum.
        """
        flat = self._bytes[: self._size]
        if not self._is_checked and self._size:
            if len(self._bytes) != self._size + _CHECKSUM_BYTES:
                raise CorruptData(
                    f"array {self._name!r} is one chunk of {len(self._bytes)} bytes, wanted "
                    f"{self._size + _CHECKSUM_BYTES}"
                )
            if crc32c(flat).to_bytes(4, "little") != self._bytes[self._size :].tobytes():
                raise CorruptData(f"array {self._name!r} does not match its checksum")
        self._is_checked = True
        return flat.view(self._dtype).reshape(self._shape)


def write_mappable(
    directory: Path,
    arrays: Iterable[tuple[str, NDArray[np.generic]]],
    attributes: Mapping[str, object],
) -> None:
    """Write arrays as one zarr v3 group, each as one chunk: whole or absent after any crash.

    Args:
        directory: becomes the group; whatever stood there before is replaced entirely.
        arrays: name and values of each, of one or more dimensions; taken and written one by one.
        attributes: plain JSON.

    Raises:
        InvalidInput: a name or the attributes cannot be stored.
        ShapeError: a dtype cannot be stored.
        StorageFull: there is no room; nothing changed.
    """
    with storage_errors(f"arrays {directory.name!r} cannot be written"):
        group = GroupWriter(FileSystem(), directory)
        try:
            for name, values in arrays:
                rows = max(len(values), 1)
                group.array(name, values.dtype, values.shape[1:], rows).append(values)
            group.finish(attributes)
        except BaseException:
            group.abandon()
            raise


def map_arrays(directory: Path) -> tuple[dict[str, MappedArray], dict[str, object]]:
    """Map all arrays of a group that :func:`write_mappable` wrote.

    Args:
        directory: the group's directory; it may be replaced or removed from then on.

    Returns:
        The arrays by name, not yet compared with their checksums, and the attributes.

    Raises:
        NotFound: there is no group in the directory.
        CorruptData: the metadata cannot be read.
    """
    files = FileSystem()
    attributes = read_attributes(files, directory)
    names = [name for name in files.names(directory) if files.is_directory(directory / name)]
    return {name: MappedArray(directory / name) for name in names if name[0] != "."}, attributes
