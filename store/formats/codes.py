"""Codes files: sparse feature activations of rows, stored once by row and once by feature."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import Conflict, CorruptData, InvalidInput, NotFound, ShapeError
from isogloss.short_repr import short_repr
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.formats.zarr_arrays import ArrayFile, GroupWriter, read_attributes
from isogloss.store.schema.json_fields import SCHEMA_VERSION, check_version, get_count, get_mapping

_PASS_ENTRIES = 32 << 20
"""Entries sorted by feature in one pass over the rows: 12 bytes each."""
_BLOCK_ENTRIES = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Csr:
    """A sparse matrix by rows: entry j of row i for ``indptr[i] <= j < indptr[i + 1]``."""

    indptr: NDArray[np.int64]
    """``[rows + 1]``, starts at 0."""

    indices: NDArray[np.int32]
    """Column of each entry, ascending within a row."""

    values: NDArray[np.float32]
    """Each entry."""

    __repr__ = short_repr

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1


class CodesWriter:
    """Appends the codes of rows. The file appears, whole, when :meth:`finish` returns.

    A context manager: leaving it without :meth:`finish` removes what was written.
    """

    def __init__(
        self,
        directory: Path,
        features: int,
        *,
        files: FileSystem | None = None,
        pass_entries: int = _PASS_ENTRIES,
    ) -> None:
        if not 1 <= features < 1 << 31:
            raise InvalidInput(f"features {features} must be in [1, 2**31)")
        self._features = features
        self._pass_entries = pass_entries
        self._group = GroupWriter(files or FileSystem(), directory)
        self._files = files or FileSystem()
        self._ends = self._group.array("rows.ends", np.dtype(np.int64))
        self._indices = self._group.array("rows.indices", np.dtype(np.int32))
        self._values = self._group.array("rows.values", np.dtype(np.float32))
        self._counts = np.zeros(features, np.int64)
        self._entries = 0
        self._is_open = True

    def __enter__(self) -> "CodesWriter":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.abandon()

    def append(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[np.int32],
        values: NDArray[np.float32],
    ) -> None:
        """Add rows at the end.

        Args:
            indptr: int64 ``[rows + 1]``, ascending from 0.
            indices: int32 ``[entries]``, in ``[0, features)``, ascending within a row.
            values: float32 ``[entries]``, finite.

        Raises:
            ShapeError: the three do not fit one another.
            InvalidInput: an index is out of range or out of order, or a value is not finite.
            Conflict: the file was finished or abandoned.
        """
        if not self._is_open:
            raise Conflict("these codes were finished or abandoned: start a new CodesWriter")
        _check_csr(indptr, indices, values, self._features)
        with storage_errors("codes cannot be written"):
            self._ends.append(indptr[1:] + self._entries)
            self._indices.append(indices)
            self._values.append(values)
        self._counts += np.bincount(indices, minlength=self._features)
        self._entries += len(indices)

    @property
    def rows(self) -> int:
        """Rows appended."""
        return self._ends.rows

    def finish(self, attributes: Mapping[str, object]) -> None:
        """Sort the codes by feature too and make the file durable under its name."""
        if not self._is_open:
            raise Conflict("these codes were finished or abandoned: start a new CodesWriter")
        header = {
            "schema_version": SCHEMA_VERSION,
            "rows": self.rows,
            "features": self._features,
            "entries": self._entries,
            "attributes": dict(attributes),
        }
        with storage_errors("codes cannot be written"):
            for array in (self._ends, self._indices, self._values):
                array.finish()
            self._group.forget(self._ends, self._indices, self._values)
            self._write_features()
            self._group.finish(header)
        self._is_open = False

    def _write_features(self) -> None:
        """Write the feature-major copy in as many passes as memory asks for."""
        directory = self._group.directory
        rows = _Sparse(self._files, directory, "rows", self.rows)
        ends = self._group.array("features.ends", np.dtype(np.int64))
        indices = self._group.array("features.indices", np.dtype(np.int32))
        values = self._group.array("features.values", np.dtype(np.float32))
        all_ends = np.cumsum(self._counts)
        ends.append(all_ends)
        first = 0
        while first < self._features:
            before = int(all_ends[first - 1]) if first else 0
            stop = int(np.searchsorted(all_ends, before + self._pass_entries, "right"))
            stop = min(self._features, max(first + 1, stop))
            found_rows, found_values = _collect(rows, first, stop)
            indices.append(found_rows)
            values.append(found_values)
            first = stop

    def abandon(self) -> None:
        """Remove what was written, unless it was finished. Later calls do nothing."""
        if self._is_open:
            self._is_open = False
            self._group.abandon()


def _check_csr(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    features: int,
) -> None:
    if indptr.ndim != 1 or len(indptr) < 1 or indices.ndim != 1 or indices.shape != values.shape:
        raise ShapeError(
            f"indptr {list(indptr.shape)}, indices {list(indices.shape)} and values "
            f"{list(values.shape)} must be [rows + 1], [entries] and [entries]"
        )
    lengths = np.diff(indptr)
    if indptr[0] != 0 or indptr[-1] != len(indices) or (lengths < 0).any():
        raise ShapeError(
            f"indptr runs from {indptr[0]} to {indptr[-1]} over {len(indices)} entries: it must "
            "ascend from 0 to their number"
        )
    if not len(indices):
        return
    if indices.min() < 0 or indices.max() >= features:
        raise InvalidInput(
            f"indices run from {indices.min()} to {indices.max()}, wanted [0, {features})"
        )
    starts_row = np.zeros(len(indices) + 1, np.bool_)
    starts_row[indptr] = True
    if not ((np.diff(indices) > 0) | starts_row[1:-1]).all():
        raise InvalidInput("indices must ascend within each row, each feature once: sort them")
    if not np.isfinite(values).all():
        raise InvalidInput(f"{int((~np.isfinite(values)).sum())} values are NaN or infinite")


class _Sparse:
    """The codes in one of their two orders on disk: by row or by feature."""

    def __init__(self, files: FileSystem, directory: Path, part: str, lines: int) -> None:
        self.ends = ArrayFile(files, directory / f"{part}.ends")
        self.indices = ArrayFile(files, directory / f"{part}.indices")
        self.values = ArrayFile(files, directory / f"{part}.values")
        if self.ends.rows != lines or self.indices.rows != self.values.rows:
            raise CorruptData(
                f"codes at {directory} have {self.ends.rows} ends for {lines} {part}, "
                f"{self.indices.rows} indices and {self.values.rows} values"
            )

    def slice(self, start: int, stop: int) -> Csr:
        """Return lines ``[start, stop)``."""
        if not 0 <= start <= stop <= self.ends.rows:
            raise ShapeError(f"[{start}, {stop}) must lie in [0, {self.ends.rows})")
        ends = np.asarray(self.ends.read(max(start - 1, 0), stop), np.int64)
        indptr = ends if start else np.concatenate([np.zeros(1, np.int64), ends])
        first, last = int(indptr[0]), int(indptr[-1])
        if (np.diff(indptr) < 0).any() or first < 0 or last > self.indices.rows:
            raise CorruptData(f"ends from {first} to {last} do not ascend within the entries")
        return Csr(
            indptr=indptr - first,
            indices=np.asarray(self.indices.read(first, last), np.int32),
            values=np.asarray(self.values.read(first, last), np.float32),
        )

    def blocks(self, entries: int) -> Iterator[tuple[int, Csr]]:
        """Yield lines in blocks of about so many entries, with the number of the first line."""
        ends = np.asarray(self.ends.read(), np.int64)
        start = 0
        while start < len(ends):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + entries, "right")))
            yield start, self.slice(start, stop)
            start = stop


def _collect(rows: _Sparse, first: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return rows and values of features ``[first, stop)``, by feature and then by row."""
    found: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]] = []
    for start, block in rows.blocks(_BLOCK_ENTRIES):
        lines = np.repeat(np.arange(block.rows, dtype=np.int32), np.diff(block.indptr))
        mine = (block.indices >= first) & (block.indices < stop)
        found.append((block.indices[mine], lines[mine] + np.int32(start), block.values[mine]))
    if not found:
        return np.empty(0, np.int32), np.empty(0, np.float32)
    order = np.argsort(np.concatenate([f for f, _, _ in found]), kind="stable")
    return (
        np.concatenate([r for _, r, _ in found])[order],
        np.concatenate([v for _, _, v in found])[order],
    )


class CodesFile:
    """Reads codes by row or by feature; safe from several threads.

    Every chunk is checked against its checksum the first time it is read.
    """

    def __init__(self, directory: Path, *, files: FileSystem | None = None) -> None:
        """Open the codes in a directory; only their headers are read.

        Args:
            directory: the codes' directory.
            files: file operations to use; by default those of the operating system.

        Raises:
            NotFound: there are no codes in the directory.
            CorruptData: the arrays of the codes contradict one another.
        """
        files = files or FileSystem()
        header = read_attributes(files, directory)
        check_version(header, f"codes at {directory}")
        self.directory = directory
        """Where they lie."""
        self.rows = get_count(header, "rows")
        """How many rows."""
        self.features = get_count(header, "features")
        """How many features."""
        self.entries = get_count(header, "entries")
        """How many activations that are not zero."""
        self.attributes = dict(get_mapping(header, "attributes"))
        """What the writer said of them."""
        try:
            self._rows = _Sparse(files, directory, "rows", self.rows)
            self._features = _Sparse(files, directory, "features", self.features)
        except NotFound as error:
            raise CorruptData(f"codes at {directory} lack a part: {error}") from error
        if self._rows.indices.rows != self.entries or self._features.indices.rows != self.entries:
            raise CorruptData(
                f"codes at {directory} hold {self._rows.indices.rows} and "
                f"{self._features.indices.rows} entries, wanted {self.entries}"
            )

    def row_slice(self, start: int, stop: int) -> Csr:
        """Return rows ``[start, stop)``; indices are features."""
        return self._rows.slice(start, stop)

    def feature_slice(self, start: int, stop: int) -> Csr:
        """Return features ``[start, stop)``; indices are rows."""
        return self._features.slice(start, stop)

    def feature(self, feature: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows on which a feature fires, ascending, and its activations there."""
        found = self._features.slice(feature, feature + 1)
        return found.indices.astype(np.int64), found.values

    def verify(self) -> None:
        """Read everything; CorruptData when a checksum fails."""
        for part in (self._rows, self._features):
            for array in (part.ends, part.indices, part.values):
                for _ in array.blocks():
                    pass
