"""The lossy tier: a sealed lane's rows as 8-bit integers with one scale a row.

Never chosen by itself. A row x is kept as ``q = round(x / s)`` with ``s = max|x| / 127`` (float32),
and reads back as ``q * s`` in the site's dtype, so that no number is off by more than about s / 2.
A row with NaN or infinity has the scale NaN and reads back as NaN throughout. The error over all
rows is measured while they are rounded, against what readers will give, and kept beside them.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput
from isogloss.store.disk.checksums import crc32c
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.formats.zarr_arrays import ArrayFile, GroupWriter, read_attributes
from isogloss.store.schema.batch import as_bytes, finite_rows
from isogloss.store.schema.json_fields import SCHEMA_VERSION, check_version, get_count
from isogloss.store.schema.recording_spec import Rows, SiteSpec

LEVELS = 127
"""Largest magnitude of a quantised number."""
_CHUNK_BYTES = 256 << 10
_VALUES, _SCALE = "values", "scale"


def quantised_directory(index: int) -> str:
    """Name of the directory of a site's quantised rows in a lane."""
    return f"quantised-{index}"


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantisationError:
    """Measured difference between the rounded rows of a site and the rows that were recorded."""

    rows: int
    """Rows whose numbers are all finite; the errors cover these."""

    nonfinite: int
    """Rows with NaN or infinity, which read back as NaN throughout."""

    squared_error: float
    """Sum of squared differences."""

    squared_norm: float
    """Sum of the squares of what was recorded."""

    max_abs: float
    """Largest difference of a number."""

    @property
    def relative_rms(self) -> float:
        """Root mean square of the differences over that of the numbers; 0 where all are 0."""
        return math.sqrt(self.squared_error / self.squared_norm) if self.squared_norm else 0.0

    @classmethod
    def none(cls) -> "QuantisationError":
        """Return the error of no rows."""
        return cls(rows=0, nonfinite=0, squared_error=0.0, squared_norm=0.0, max_abs=0.0)

    def merge(self, other: "QuantisationError") -> "QuantisationError":
        """Return the error over both sets of rows."""
        return QuantisationError(
            rows=self.rows + other.rows,
            nonfinite=self.nonfinite + other.nonfinite,
            squared_error=self.squared_error + other.squared_error,
            squared_norm=self.squared_norm + other.squared_norm,
            max_abs=max(self.max_abs, other.max_abs),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the error as a JSON object; ``relative_rms`` is there for people."""
        return {
            "rows": self.rows,
            "nonfinite": self.nonfinite,
            "squared_error": self.squared_error,
            "squared_norm": self.squared_norm,
            "max_abs": self.max_abs,
            "relative_rms": self.relative_rms,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "QuantisationError":
        """Read an error from a JSON object; InvalidInput when the object has another form."""
        return cls(
            rows=get_count(document, "rows"),
            nonfinite=get_count(document, "nonfinite"),
            squared_error=_get_number(document, "squared_error"),
            squared_norm=_get_number(document, "squared_norm"),
            max_abs=_get_number(document, "max_abs"),
        )


def _get_number(document: Mapping[str, object], key: str) -> float:
    value = document.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidInput(f"field {key!r} is {value!r}, wanted a number >= 0")
    if not 0 <= value <= sys.float_info.max:
        raise InvalidInput(f"field {key!r} is below 0, or no finite number: wanted one >= 0")
    return float(value)


def quantise_rows(values: Rows) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round rows to 8 bits.

    Args:
        values: ``[rows, width]``.

    Returns:
        The integers in [-127, 127], ``[rows, width]``, and the scale of each row.
    """
    wide: NDArray[np.float32] = _widened(values)
    finite = finite_rows(values)
    wide[~finite] = 0
    scale = np.abs(wide).max(axis=1) / np.float32(LEVELS)
    with np.errstate(over="ignore"):
        too_large = np.isinf(scale * np.float32(LEVELS))
    scale[too_large] = np.nextafter(scale[too_large], np.float32(0))
    divisor = np.where(scale > 0, scale, np.float32(1))[:, None]
    np.divide(wide, divisor, out=wide)
    np.clip(np.rint(wide, out=wide), -LEVELS, LEVELS, out=wide)
    scale[~finite] = np.nan
    return wide.astype(np.int8), scale


def _widened(values: Rows) -> NDArray[np.float32]:
    """Return a copy of rows as float32; exact for every dtype a site may have."""
    return np.array(values, np.float32)


def restore_rows(
    values: NDArray[np.int8], scale: NDArray[np.float32], dtype: np.dtype[np.generic]
) -> Rows:
    """Return what quantised rows read back as, ``[rows, width]`` in the site's dtype."""
    return (values.astype(np.float32) * scale[:, None]).astype(dtype)


def measure_error(values: Rows, restored: Rows) -> QuantisationError:
    """Return how far restored rows are from what they were."""
    finite = finite_rows(values)
    wide = _widened(values)[finite].astype(np.float64)
    difference = wide - _widened(restored)[finite]
    return QuantisationError(
        rows=int(finite.sum()),
        nonfinite=int(len(finite) - finite.sum()),
        squared_error=float(np.einsum("ij,ij->", difference, difference)),
        squared_norm=float(np.einsum("ij,ij->", wide, wide)),
        max_abs=float(np.abs(difference).max(initial=0.0)),
    )


def write_quantised(
    files: FileSystem, lane: Path, index: int, site: SiteSpec, blocks: Iterable[Rows]
) -> QuantisationError:
    """Write the quantised rows of a site beside those of its lane, and read them back.

    Once the directory has its name, readers read it instead of the exact rows. After a crash before
    that, readers read the exact rows.

    Args:
        files: the file system that the lane is on.
        lane: directory of the lane.
        index: index of the site in the recording.
        site: the site.
        blocks: all its rows, in any number of blocks.

    Returns:
        The error over all rows.

    Raises:
        CorruptData: the disk gave back other bytes than were written; readers go on with the exact
            rows.
    """
    directory = lane / quantised_directory(index)
    group = GroupWriter(files, directory)
    total = QuantisationError.none()
    given = [0, 0]
    try:
        rows = 1 << max(0, (_CHUNK_BYTES // site.width).bit_length() - 1)
        values = group.array(_VALUES, np.dtype(np.int8), (site.width,), rows)
        scales = group.array(_SCALE, np.dtype(np.float32))
        for block in blocks:
            numbers, scale = quantise_rows(block)
            values.append(numbers)
            scales.append(scale)
            given = [crc32c(as_bytes(numbers), given[0]), crc32c(as_bytes(scale), given[1])]
            restored = restore_rows(numbers, scale, site.numpy_dtype)
            total = total.merge(measure_error(block, restored))
        attributes = {"schema_version": SCHEMA_VERSION, "dtype": site.dtype, **total.to_dict()}
        group.finish(attributes)
    except BaseException:
        group.abandon()
        raise
    if _checksums(files, directory) != given:
        files.remove(directory / "zarr.json")  # from here on it is not what is read
        files.remove_tree(directory)
        raise CorruptData(f"site {site.name!r} of lane {lane.name!r} came back changed: try again")
    return total


def _checksums(files: FileSystem, directory: Path) -> list[int]:
    """Return the CRC-32C of both arrays as the disk holds them."""
    found: list[int] = []
    for name in (_VALUES, _SCALE):
        for chunk in files.names(directory / name):
            descriptor = files.open(directory / name / chunk)
            try:
                files.drop_cache(descriptor)
            finally:
                files.close(descriptor)
        array, checksum = ArrayFile(files, directory / name), 0
        step = max(1, (8 << 20) // max(1, array.row_bytes))
        for start in range(0, array.rows, step):
            part = array.read(start, min(array.rows, start + step))
            checksum = crc32c(as_bytes(part), checksum)
        found.append(checksum)
    return found


def read_error(files: FileSystem, lane: Path, index: int) -> QuantisationError:
    """Return the error that was measured when a site of a lane was quantised.

    Args:
        files: the file system that the lane is on.
        lane: directory of the lane.
        index: index of the site in the recording.

    Returns:
        The error over all rows of the lane.

    Raises:
        NotFound: the site was not quantised.
        CorruptData: the attributes that hold it are damaged.
    """
    attributes = read_attributes(files, lane / quantised_directory(index))
    try:
        check_version(attributes, f"quantised site {index} of lane {lane.name!r}")
        return QuantisationError.from_dict(attributes)
    except InvalidInput as error:
        raise CorruptData(f"quantised site {index} of lane {lane.name!r}: {error}") from error


class QuantisedRows:
    """Reads the rows of one quantised site of a lane: rows rounded to 8 bits a number.

    Args:
        files: the file system that the lane is on.
        lane: the lane's directory.
        index: position of the site in the recording's list of sites.
        site: the site.
        rows: how many rows the lane must have at least.
        first: the row of the lane that counts as row 0 here.

    Raises:
        CorruptData: the files hold other shapes or dtypes, or fewer than ``rows`` rows.
    """

    def __init__(
        self, files: FileSystem, lane: Path, index: int, site: SiteSpec, rows: int, first: int = 0
    ) -> None:
        directory = lane / quantised_directory(index)
        self._values = ArrayFile(files, directory / _VALUES)
        self._scale = ArrayFile(files, directory / _SCALE)
        self._dtype = site.numpy_dtype
        self._first = first
        shapes = self._values.shape, self._scale.shape
        kinds = self._values.dtype, self._scale.dtype
        if shapes != ((self._scale.rows, site.width), (self._scale.rows,)) or kinds != (
            np.dtype(np.int8),
            np.dtype(np.float32),
        ):
            raise CorruptData(
                f"quantised site {site.name!r} of lane {lane.name!r} holds {kinds[0]} "
                f"{list(shapes[0])} and {kinds[1]} {list(shapes[1])}: run verify"
            )
        if self._scale.rows < rows:
            raise CorruptData(
                f"quantised site {site.name!r} of lane {lane.name!r} has {self._scale.rows} rows, "
                f"wanted {rows}: run verify"
            )

    def read_into(self, row: int, out: NDArray[np.uint8]) -> None:
        """Fill ``out`` (``[rows, row_bytes]``) with the rows from ``row`` on."""
        start = self._first + row
        stop = start + len(out)
        values = np.asarray(self._values.read(start, stop), np.int8)
        scale = np.asarray(self._scale.read(start, stop), np.float32)
        out[:] = restore_rows(values, scale, self._dtype).view(np.uint8)
