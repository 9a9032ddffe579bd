"""Array files: groups of plain zarr v3 arrays, with a CRC-32C on every chunk.

They are written and read here without the zarr library, so that a process that takes batches in
need not import it. zarr-python and tensorstore read the same files.
"""

import contextlib
import json
import math
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, NotFound, ShapeError
from isogloss.store.disk import signed_json
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import (
    FileSystem,
    make_directories,
    read_range,
    storage_errors,
    write_new,
)
from isogloss.store.schema.batch import as_bytes
from isogloss.store.schema.json_fields import get_items, get_mapping, get_text

CHUNK_BYTES = 1 << 20
"""About how many bytes one chunk file holds."""

BLOCK_BYTES = 8 << 20
"""About how many bytes are read together by what goes through a whole array."""

_UNCHECKED_BYTES = 64 << 20
"""Up to this size memory is reserved before the lengths of the files were looked at."""

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_NAMES: Mapping[str, np.dtype[np.generic]] = {
    "bool": np.dtype(np.bool_),
    **{f"int{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "bfloat16": _BFLOAT16,
}
_BYTES_CODEC = {"name": "bytes", "configuration": {"endian": "little"}}
_CODECS: list[object] = [_BYTES_CODEC, {"name": "crc32c"}]


class ArrayWriter:
    """Appends rows to one array of a group that is being written."""

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        dtype: np.dtype[np.generic],
        row_shape: tuple[int, ...] = (),
        chunk_rows: int | None = None,
    ) -> None:
        if dtype.name not in _NAMES:
            raise ShapeError(f"arrays of dtype {dtype} cannot be stored, only {sorted(_NAMES)}")
        self._files = files
        self._directory = directory
        self._dtype = dtype
        self._row_shape = row_shape
        row_bytes = max(1, dtype.itemsize * int(np.prod(row_shape, dtype=np.int64)))
        self._chunk_rows = chunk_rows or max(1, CHUNK_BYTES // row_bytes)
        self._pending: list[NDArray[np.generic]] = []
        self._pending_rows = 0
        self._chunks = 0
        self.rows = 0
        files.make_directory(directory)

    def append(self, values: NDArray[np.generic]) -> None:
        """Add rows at the end.

        Args:
            values: the rows.

        Raises:
            ShapeError: their dtype or the shape of a row differs from the array's.
        """
        if values.dtype != self._dtype or values.shape[1:] != self._row_shape:
            raise ShapeError(
                f"rows are {values.dtype} {list(values.shape)}, wanted {self._dtype} "
                f"{['rows', *self._row_shape]}"
            )
        start = 0
        while start < len(values):
            take = min(len(values) - start, self._chunk_rows - self._pending_rows)
            self._pending.append(values[start : start + take])
            self._pending_rows += take
            start += take
            if self._pending_rows == self._chunk_rows:
                self._write_chunk()
        self._pending = [np.array(part) for part in self._pending]
        self.rows += len(values)

    def _write_chunk(self) -> None:
        flat = as_bytes(np.concatenate(self._pending))
        short = (self._chunk_rows - self._pending_rows) * (flat.nbytes // self._pending_rows)
        if short:
            flat = np.concatenate([flat, np.zeros(short, np.uint8)])
        key = chunk_key(self._chunks, 1 + len(self._row_shape))
        checksum = crc32c(flat).to_bytes(4, "little")
        write_new(self._files, self._directory / key, [flat, checksum])
        self._chunks += 1
        self._pending = []
        self._pending_rows = 0

    def finish(self) -> None:
        """Write the last chunk and the metadata."""
        if self._pending_rows and 0 not in self._row_shape:
            if self._chunks == 0:
                self._chunk_rows = self._pending_rows
            self._write_chunk()
        shape = [self.rows, *self._row_shape]
        chunk = [self._chunk_rows, *(max(1, n) for n in self._row_shape)]
        _write_metadata(self._files, self._directory, self._dtype, shape, chunk)


def chunk_key(index: int, dimensions: int) -> str:
    """Name of the file of a chunk; arrays are cut along their first dimension only."""
    return ".".join(["c", str(index), *["0"] * (dimensions - 1)]) if dimensions else "c"


def _write_metadata(
    files: FileSystem,
    directory: Path,
    dtype: np.dtype[np.generic],
    shape: Sequence[int],
    chunk: Sequence[int],
) -> None:
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": False if dtype.name == "bool" else 0,
        "codecs": _codecs(dtype),
        "attributes": {},
    }
    write_new(files, directory / "zarr.json", [_sign(document)])
    files.sync_directory(directory)


def _sign(document: Mapping[str, object]) -> bytes:
    """Return zarr metadata as bytes, its checksum among the attributes."""
    attributes = get_mapping(document, "attributes")
    if signed_json.KEY in attributes:
        raise InvalidInput(f"the attribute {signed_json.KEY!r} is reserved: name it otherwise")
    signed = {**attributes, signed_json.KEY: signed_json.checksum(document)}
    return json.dumps({**document, "attributes": signed}).encode()


def _check_signed(content: bytes, what: str) -> Mapping[str, object]:
    """Return zarr metadata without its checksum; CorruptData when it does not match."""
    document = signed_json.parse(content, what)
    try:
        signed = get_mapping(document, "attributes")
    except InvalidInput as error:
        raise CorruptData(f"{what} does not match its checksum") from error
    attributes = {name: value for name, value in signed.items() if name != signed_json.KEY}
    document = {**document, "attributes": attributes}
    if signed.get(signed_json.KEY) != signed_json.checksum(document):
        raise CorruptData(f"{what} does not match its checksum")
    return document


def _codecs(dtype: np.dtype[np.generic]) -> list[object]:
    return [{"name": "bytes"}, _CODECS[1]] if dtype.itemsize == 1 else _CODECS


_WRITING: set[Path] = set()
"""The half-written groups of this process."""


def is_being_written(path: Path) -> bool:
    """Whether a thread of this process writes the half-written group at a path."""
    return path in _WRITING


class GroupWriter:
    """A directory of arrays that appears under its name only when it is complete."""

    def __init__(self, files: FileSystem, directory: Path) -> None:
        self._files = files
        self._target = directory
        make_directories(files, directory.parent)
        self.directory = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.partial")
        self._old = self.directory.with_name(f"{self.directory.name}.old")
        _WRITING.update((self.directory, self._old))
        try:
            files.make_directory(self.directory)
        except BaseException:
            self._end()
            raise
        self._arrays: list[ArrayWriter] = []

    def array(
        self,
        name: str,
        dtype: np.dtype[np.generic],
        row_shape: tuple[int, ...] = (),
        chunk_rows: int | None = None,
    ) -> ArrayWriter:
        """Start an array of the group; ``name`` must be a plain file name."""
        directory = self.directory / check_array_name(name)
        writer = ArrayWriter(self._files, directory, dtype, row_shape, chunk_rows)
        self._arrays.append(writer)
        return writer

    def write(self, name: str, values: NDArray[np.generic]) -> None:
        """Write a whole array, of any number of dimensions."""
        if values.ndim:
            self.array(name, values.dtype, values.shape[1:]).append(values)
            return
        directory = self.directory / check_array_name(name)
        self._files.make_directory(directory)
        flat = as_bytes(values)
        pieces = [flat, crc32c(flat).to_bytes(4, "little")]
        write_new(self._files, directory / chunk_key(0, 0), pieces)
        _write_metadata(self._files, directory, values.dtype, [], [])

    def finish(self, attributes: Mapping[str, object]) -> None:
        """Make the group durable and give it its name; it replaces a group of that name."""
        text = _sign({"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)})
        for array in self._arrays:
            array.finish()
        write_new(self._files, self.directory / "zarr.json", [text])
        self._files.sync_directory(self.directory)
        is_there = self._files.exists(self._target)
        if is_there:
            self._files.replace(self._target, self._old)
        self._files.replace(self.directory, self._target)
        self._files.sync_directory(self._target.parent)
        if is_there:
            self._files.remove_tree(self._old)
        self._end()

    def _end(self) -> None:
        _WRITING.difference_update((self.directory, self._old))

    def forget(self, *arrays: ArrayWriter) -> None:
        """Let :meth:`finish` skip arrays that the caller finished already."""
        self._arrays = [array for array in self._arrays if array not in arrays]

    def abandon(self) -> None:
        """Remove what was written; the target stays as it was."""
        with contextlib.suppress(OSError):
            self._files.remove_tree(self.directory)
        self._end()


def check_array_name(name: str) -> str:
    """Return ``name`` when it can name an array of a group; InvalidInput otherwise."""
    if not name or name.startswith((".", "__")) or "/" in name or "\\" in name or "\0" in name:
        raise InvalidInput(f"array name {name!r} must be a plain file name: no slash, no dot first")
    if name == "zarr.json" or len(name.encode()) > 200:
        raise InvalidInput(f"array name {name!r} is reserved or longer than 200 bytes")
    return name


class ArrayFile:
    """Reads rows of one array. Each chunk is checked against its checksum at its first read."""

    def __init__(self, files: FileSystem, directory: Path) -> None:
        self._files = files
        self._directory = directory
        try:
            content = files.read_whole(directory / "zarr.json")
        except FileNotFoundError as error:
            raise NotFound(f"no array at {directory}") from error
        document = _check_signed(content, f"metadata of array {directory.name!r}")
        try:
            self.shape = tuple(_whole(n) for n in get_items(document, "shape"))
            self.dtype = _NAMES[get_text(document, "data_type")]
            grid = get_mapping(get_mapping(document, "chunk_grid"), "configuration")
            chunk = tuple(_whole(n) for n in get_items(grid, "chunk_shape"))
            if document.get("codecs") != _codecs(self.dtype) or len(chunk) != len(self.shape):
                raise InvalidInput(f"codecs are {document.get('codecs')}")
            if self.shape and chunk[1:] != tuple(max(1, n) for n in self.shape[1:]):
                raise InvalidInput(f"chunk shape {chunk} does not fit {self.shape}")
        except (ValueError, KeyError) as error:
            raise CorruptData(f"array {directory.name!r} has unusable metadata: {error}") from error
        self.chunk_rows = max(1, chunk[0]) if chunk else 1
        self._row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        self._checked: set[int] = set()
        self._lock = threading.Lock()

    @property
    def rows(self) -> int:
        """Length of the first dimension; 1 for a single number."""
        return self.shape[0] if self.shape else 1

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self._row_bytes

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[np.generic]:
        """Return rows ``[start, stop)``.

        Args:
            start: first row.
            stop: row behind the last; all rows by default.

        Returns:
            The rows, in memory of their own.

        Raises:
            CorruptData: a chunk is missing, cut short, or does not match its checksum.
            ShapeError: the rows are not all within the array.
        """
        stop = self.rows if stop is None else stop
        if not 0 <= start <= stop <= self.rows:
            raise ShapeError(
                f"rows [{start}, {stop}) of array {self._directory.name!r} of {self.rows} rows"
            )
        shape = (stop - start, *self.shape[1:]) if self.shape else ()
        flat = self._allocate(start, stop)
        if flat.nbytes:
            self._fill(flat, start, stop)
        return flat.view(self.dtype).reshape(shape)

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[NDArray[np.generic]]:
        """Read all rows in blocks; none come where a row has no bytes.

        Args:
            block_bytes: about how large a block is.

        Yields:
            The rows of each block, in memory of their own.

        Raises:
            CorruptData: a chunk is missing, cut short, or does not match its checksum.
        """
        if not self._row_bytes:
            return  # the number of such rows is not backed by any file
        step = max(1, block_bytes // self._row_bytes)
        for start in range(0, self.rows, step):
            yield self.read(start, min(start + step, self.rows))

    def _allocate(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return memory for the rows, once the files of their chunks were found to be as large."""
        if self._row_bytes and stop > start:
            first, last = start // self.chunk_rows, (stop - 1) // self.chunk_rows
            for chunk in (first, last):
                if not self._files.exists(self.chunk_path(chunk)):
                    raise CorruptData(f"array {self._directory.name!r} lacks chunk {chunk}")
            if (stop - start) * self._row_bytes > _UNCHECKED_BYTES:
                there = len(self._files.names(self._directory)) - 1  # but for the metadata
                if last >= there:
                    raise CorruptData(
                        f"array {self._directory.name!r} has {there} chunks, wanted {last + 1}"
                    )
                self._check_length(first)
        return np.empty((stop - start) * self._row_bytes, np.uint8)

    def _check_length(self, chunk: int) -> None:
        """Compare the length of a chunk's file with the metadata, unless it was read before."""
        if chunk in self._checked:
            return
        descriptor = self._files.open(self.chunk_path(chunk))
        try:
            self._check_size(chunk, self._files.size(descriptor))
        finally:
            self._files.close(descriptor)

    def _check_size(self, chunk: int, found: int) -> int:
        wanted = self.chunk_rows * self._row_bytes + 4
        if found != wanted:
            raise CorruptData(
                f"chunk {chunk} of array {self._directory.name!r} has {found} bytes, wanted "
                f"{wanted}"
            )
        return wanted

    def chunk_path(self, chunk: int) -> Path:
        """Return the file of a chunk."""
        return self._directory / chunk_key(chunk, len(self.shape))

    def _fill(self, flat: NDArray[np.uint8], start: int, stop: int) -> None:
        row = start
        while row < stop:
            chunk, within = divmod(row, self.chunk_rows)
            take = min(stop - row, self.chunk_rows - within)
            at = (row - start) * self._row_bytes
            length = take * self._row_bytes
            flat[at : at + length] = self._read_chunk(chunk, within * self._row_bytes, length)
            row += take

    def _read_chunk(self, chunk: int, offset: int, length: int) -> NDArray[np.uint8]:
        name = self._directory.name
        try:
            descriptor = self._files.open(self.chunk_path(chunk))
        except FileNotFoundError as error:
            raise CorruptData(f"array {name!r} lacks chunk {chunk}") from error
        try:
            if chunk in self._checked:
                return read_range(self._files, descriptor, offset, length)
            wanted = self._check_size(chunk, self._files.size(descriptor))
            whole = read_range(self._files, descriptor, 0, wanted)
        finally:
            self._files.close(descriptor)
        if crc32c(whole[:-4]).to_bytes(4, "little") != whole[-4:].tobytes():
            raise CorruptData(f"chunk {chunk} of array {name!r} does not match its checksum")
        with self._lock:
            self._checked.add(chunk)
        return whole[offset : offset + length]


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInput(f"shape holds {value!r}, wanted whole numbers")
    return value


def read_attributes(files: FileSystem, directory: Path) -> dict[str, object]:
    """Return the attributes of a group.

    Args:
        files: the file system that the group is on.
        directory: the group's directory.

    Returns:
        The attributes without the checksum.

    Raises:
        NotFound: there is no group in the directory.
        CorruptData: the group's metadata cannot be read.
    """
    try:
        content = files.read_whole(directory / "zarr.json")
    except FileNotFoundError as error:
        raise NotFound(f"no arrays at {directory}") from error
    document = _check_signed(content, f"metadata of group {directory.name!r}")
    if document.get("node_type") != "group":
        raise CorruptData(f"{directory.name!r} is no zarr group")
    return dict(get_mapping(document, "attributes"))


def write_arrays(
    directory: Path,
    arrays: Mapping[str, NDArray[np.generic]],
    attributes: Mapping[str, object],
    *,
    files: FileSystem | None = None,
) -> None:
    """Write arrays as one zarr v3 group: whole or absent after any crash.

    Args:
        directory: becomes the group; whatever stood there before is replaced entirely.
        arrays: by plain name; bool, integers and floats up to 64 bits, bfloat16.
        attributes: plain JSON.
        files: where to write; the operating system's files by default.

    Raises:
        InvalidInput: a name or the attributes cannot be stored.
        ShapeError: a dtype cannot be stored.
        StorageFull: there is no room; nothing changed.
    """
    with storage_errors(f"arrays {directory.name!r} cannot be written"):
        group = GroupWriter(files or FileSystem(), directory)
        try:
            for name, values in arrays.items():
                group.write(name, values)
            group.finish(attributes)
        except BaseException:
            group.abandon()
            raise


def read_arrays(
    directory: Path, *, files: FileSystem | None = None
) -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
    """Read all arrays of a group, and compare each chunk with its checksum.

    Args:
        directory: the group's directory.
        files: file operations to use; by default those of the operating system.

    Returns:
        The arrays by name, and the attributes.

    Raises:
        NotFound: there is no group in the directory.
        CorruptData: an array is damaged; the message names it.
    """
    files = files or FileSystem()
    attributes = read_attributes(files, directory)
    names = [name for name in files.names(directory) if files.is_directory(directory / name)]
    arrays = {name: ArrayFile(files, directory / name).read() for name in names if name[0] != "."}
    return arrays, attributes
