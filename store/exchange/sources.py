"""Sources of imported rows: arrays in memory, and files whose headers are checked first."""

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, NotFound, ShapeError
from isogloss.store.disk.filesystem import FileSystem, OpenFile, read_range, storage_errors
from isogloss.store.formats.npy import read_npy_header
from isogloss.store.formats.safetensors import read_safetensors_header
from isogloss.store.formats.zarr_arrays import ArrayFile

_RAW_DTYPES = {
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    **{f"float{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"int{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}


@runtime_checkable
class RowsSource(Protocol):
    """Rows that can be read in parts."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Dimensions of one row."""
        ...

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the rows."""
        ...

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """Return rows ``[start, stop)``."""
        ...


ImportPart: TypeAlias = NDArray[np.generic] | Path | RowsSource
ImportSource: TypeAlias = ImportPart | Sequence[ImportPart]
"""Rows to import: an array (a ``numpy.memmap`` too), the path of a ``.npy`` or ``.safetensors``
file, any :class:`RowsSource`, or several of these one behind the other."""


class ArrayRows:
    """Rows of an array in memory, or mapped into it."""

    def __init__(self, values: NDArray[np.generic]) -> None:
        if values.ndim < 1:
            raise ShapeError("a single number holds no rows: give an array of at least one axis")
        self._values = values

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self._values)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Dimensions of one row."""
        return self._values.shape[1:]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the rows."""
        return self._values.dtype

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """Return rows ``[start, stop)``."""
        return np.ascontiguousarray(self._values[start:stop])


class _FileRows:
    """Rows that stand row-major in a file, from a byte on."""

    def __init__(
        self,
        files: FileSystem,
        file: OpenFile,
        path: Path,
        dtype: np.dtype[np.generic],
        shape: tuple[int, ...],
        offset: int,
    ) -> None:
        if not shape:
            raise ShapeError(f"{path} holds a single number, wanted rows")
        self._files = files
        self._file = file
        self._path = path
        self._offset = offset
        self.rows = shape[0]
        self.row_shape = shape[1:]
        self.dtype = dtype

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """Return rows ``[start, stop)``."""
        row_bytes = self.dtype.itemsize * math.prod(self.row_shape)
        with storage_errors(f"{self._path} cannot be read"):
            content = read_range(
                self._files,
                self._file.descriptor,
                self._offset + start * row_bytes,
                (stop - start) * row_bytes,
            )
        return content.view(self.dtype).reshape(stop - start, *self.row_shape)


class NumpyRows(_FileRows):
    """Rows of a ``.npy`` file, read in parts; nothing in it is ever unpickled.

    Args:
        path: the file's path.
        files: the file system it is on; the operating system's files by default.

    Raises:
        NotFound: there is no such file.
        CorruptData: the file's header cannot be read or contradicts the file's length.
    """

    def __init__(self, path: Path, files: FileSystem | None = None) -> None:
        files = files or FileSystem()
        file = _open(files, path)
        dtype, shape, offset = read_npy_header(files, path, file.descriptor)
        super().__init__(files, file, path, dtype, shape, offset)


class RawRows(_FileRows):
    """Rows of a file that is nothing but numbers, such as one behind a ``numpy.memmap``.

    Args:
        path: the file's path.
        dtype: dtype of its numbers, little endian: ``bfloat16``, ``float32``, ``uint32`` and so on.
        width: numbers in a row.
        rows: how many rows; all that the file holds by default.
        offset: byte where the first row starts.
        files: the file system it is on; the operating system's files by default.

    Raises:
        NotFound: there is no such file.
        InvalidInput: the dtype is unknown, or a number makes no sense.
        ShapeError: the file is no whole number of rows, or shorter than ``rows``.
    """

    def __init__(
        self,
        path: Path,
        dtype: str,
        width: int,
        *,
        rows: int | None = None,
        offset: int = 0,
        files: FileSystem | None = None,
    ) -> None:
        if dtype not in _RAW_DTYPES:
            raise InvalidInput(f"dtype {dtype!r} of {path} is not one of {sorted(_RAW_DTYPES)}")
        if width < 1 or offset < 0 or (rows is not None and rows < 0):
            raise InvalidInput(
                f"width {width} of {path} must be positive, offset {offset} and rows {rows} not "
                "negative"
            )
        files = files or FileSystem()
        file = _open(files, path)
        kind = _RAW_DTYPES[dtype]
        size = files.size(file.descriptor) - offset
        found, rest = divmod(max(size, 0), width * kind.itemsize)
        if (rows is None and (rest or size < 0)) or (rows is not None and found < rows):
            raise ShapeError(
                f"{path} has {size} bytes from byte {offset} on, which is no whole number of rows "
                f"of {width} {dtype}, or fewer than {rows}: give dtype, width and offset as written"
            )
        shape = (found if rows is None else rows, width)
        super().__init__(files, file, path, kind, shape, offset)


class SafetensorsRows:
    """Rows of one tensor of a ``.safetensors`` file, or of several files one behind the other.

    Args:
        paths: the files' paths, in the order of their rows.
        tensor: name of the tensor, the same in all files.
        files: the file system they are on; the operating system's files by default.

    Raises:
        NotFound: there is no such file, or it holds no such tensor.
        CorruptData: a file's header cannot be read or contradicts the file.
        ShapeError: the tensors differ in dtype or in the shape of a row.
    """

    def __init__(
        self, paths: Path | Sequence[Path], tensor: str, files: FileSystem | None = None
    ) -> None:
        files = files or FileSystem()
        chosen = [paths] if isinstance(paths, Path) else list(paths)
        self._joined = JoinedRows([_tensor_rows(files, path, tensor) for path in chosen])

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._joined.rows

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Dimensions of one row."""
        return self._joined.row_shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the rows."""
        return self._joined.dtype

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """Return rows ``[start, stop)``."""
        return self._joined.read(start, stop)


def _tensor_rows(files: FileSystem, path: Path, tensor: str) -> _FileRows:
    file = _open(files, path)
    places = read_safetensors_header(files, path, file.descriptor)
    place = places.get(tensor)
    if place is None:
        known = ", ".join(sorted(places)[:8])
        raise NotFound(f"{path} holds no tensor {tensor!r}; it holds: {known}")
    return _FileRows(files, file, path, place.dtype, place.shape, place.offset)


class ZarrRows:
    """Rows of one array of an exported zarr group; each chunk is checked."""

    def __init__(self, directory: Path, files: FileSystem | None = None) -> None:
        self._array = ArrayFile(files or FileSystem(), directory)
        if not self._array.shape:
            raise ShapeError(f"{directory} holds a single number, wanted rows")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._array.rows

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Dimensions of one row."""
        return self._array.shape[1:]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the rows."""
        return self._array.dtype

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """Return rows ``[start, stop)``."""
        return self._array.read(start, stop)


class JoinedRows:
    """Several sources, one behind the other. ShapeError where their rows differ."""

    def __init__(self, parts: Sequence[RowsSource]) -> None:
        if not parts:
            raise InvalidInput("no sources were given: name at least one")
        self._parts = list(parts)
        self._ends = list(itertools.accumulate(part.rows for part in parts))
        kinds = {(str(part.dtype), part.row_shape) for part in parts}
        if len(kinds) > 1:
            raise ShapeError(f"parts of one source differ in dtype or row shape: {sorted(kinds)}")

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._ends[-1]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Dimensions of one row."""
        return self._parts[0].row_shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Dtype of the rows."""
        return self._parts[0].dtype

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """Return rows ``[start, stop)``."""
        found: list[NDArray[np.generic]] = []
        while start < stop:
            index = bisect_right(self._ends, start)
            first = self._ends[index] - self._parts[index].rows
            end = min(stop, self._ends[index])
            found.append(self._parts[index].read(start - first, end - first))
            start = end
        if not found:
            return np.empty((0, *self.row_shape), self.dtype)
        return found[0] if len(found) == 1 else np.concatenate(found)


def open_source(source: ImportSource, tensor: str) -> RowsSource:
    """Return an object that reads the rows of an array or file.

    Args:
        source: an array, a path, or such an object already.
        tensor: name of the tensor to read if the file is a ``.safetensors`` one.

    Returns:
        The source.

    Raises:
        InvalidInput: the file is of another kind.
    """
    if isinstance(source, np.ndarray):
        return ArrayRows(source)
    if isinstance(source, Path):
        if source.suffix == ".npy":
            return NumpyRows(source)
        if source.suffix == ".safetensors":
            return SafetensorsRows(source, tensor)
        raise InvalidInput(
            f"{source} ends neither in .npy nor in .safetensors: name its dtype and width with "
            "RawRows"
        )
    if isinstance(source, RowsSource):
        return source
    return JoinedRows([open_source(part, tensor) for part in source])


def _open(files: FileSystem, path: Path) -> OpenFile:
    """Open a file that a user named; a directory or a pipe of that name is none."""
    try:
        with storage_errors(f"{path} cannot be opened"):
            if files.can_map and path.exists() and not path.is_file():
                what = "a directory" if path.is_dir() else "no regular file"
                raise InvalidInput(f"{path} is {what}, wanted a file: name the file itself")
            return OpenFile(files, path)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error


def as_column(
    values: NDArray[np.generic], dtype: type[np.generic], name: str
) -> NDArray[np.generic]:
    """Return a token column in its dtype; other whole numbers are converted if they fit.

    Args:
        values: the column.
        dtype: the dtype to convert to.
        name: name of the column, for error messages.

    Returns:
        The column in ``dtype``.

    Raises:
        ShapeError: the values are not whole numbers, or one is too large for ``dtype``.
    """
    wanted = np.dtype(dtype)
    if values.dtype == wanted:
        return values
    if values.dtype.kind not in "iu":
        raise ShapeError(f"column {name!r} is {values.dtype}, wanted whole numbers ({wanted})")
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high >= 1 << (8 * wanted.itemsize):
        raise ShapeError(f"column {name!r} holds {low} to {high}, which {wanted} cannot hold")
    return values.astype(wanted)


def as_site(values: NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Return rows in a site's dtype: as they are, or bfloat16 that was carried as its bits."""
    if values.dtype == dtype:
        return values
    if can_carry(values.dtype, dtype):
        return np.ascontiguousarray(values).view(dtype)
    raise CorruptData(f"rows became {values.dtype}, wanted {dtype}: the source changed")


def can_carry(found: np.dtype[np.generic], wanted: np.dtype[np.generic]) -> bool:
    """Whether numbers of one dtype are the bits of another: bfloat16 as uint16 or 2 raw bytes."""
    is_carrier = found == np.dtype(np.uint16) or (found.kind == "V" and found.itemsize == 2)
    return wanted == np.dtype(ml_dtypes.bfloat16) and is_carrier
