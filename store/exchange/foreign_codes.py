"""Codes that another tool computed: read from what it wrote, checked whole, compressed by rows.

Three forms are read: a scipy sparse matrix ``[rows, features]`` in memory or as ``.npz``; columns
``segment``, ``feature``, ``value`` with one entry an activation; and the same columns in a
``.parquet`` file (extra ``parquet``). Nothing is repaired in silence: what does not fit is refused,
with the first place where it does not. Stored zeros alone are dropped, since they say nothing.
"""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, MissingExtra, NotFound, ShapeError
from isogloss.store.exchange.parquet import read_parquet
from isogloss.store.formats.codes import Csr

COLUMNS = ("segment", "feature", "value")
"""Columns of codes by entry."""

_MOST_FEATURES = 1 << 31
_MOST_SEGMENTS = 1 << 27


@runtime_checkable
class SparseMatrix(Protocol):
    """What every sparse matrix of scipy can do; its own types are looser than ours."""

    @property
    def shape(self) -> object:
        """Rows and features."""
        ...

    def tocoo(self) -> object:
        """Return the same by entries: ``row``, ``col`` and ``data``."""
        ...


ForeignCodes: TypeAlias = SparseMatrix | Mapping[str, NDArray[np.generic]] | str | Path
"""A scipy sparse matrix, columns by name, or the path of a ``.npz`` or ``.parquet`` file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedCodes:
    """Codes in which everything was checked."""

    features: int
    """How many features the dictionary has."""
    codes: Csr
    """Activations above zero of each segment."""
    present: NDArray[np.bool_]
    """Whether the tool had an answer for the segment, ``[segments]``; without one its codes are
    unknown, not zero."""

    @property
    def segments(self) -> int:
        """How many segments."""
        return self.codes.rows

    @property
    def digest(self) -> str:
        """SHA-256 of everything here, as hexadecimal digits: equal for equal codes."""
        found = CodesDigest(self.features)
        found.update(self)
        return found.hexdigest()

    def part(self, start: int, stop: int) -> "CheckedCodes":
        """Return segments ``[start, stop)``."""
        first, last = int(self.codes.indptr[start]), int(self.codes.indptr[stop])
        return CheckedCodes(
            features=self.features,
            codes=Csr(
                indptr=self.codes.indptr[start : stop + 1] - first,
                indices=self.codes.indices[first:last],
                values=self.codes.values[first:last],
            ),
            present=self.present[start:stop],
        )


class CodesDigest:
    """SHA-256 of codes that come in parts; how they were cut changes nothing."""

    def __init__(self, features: int) -> None:
        self._features = features
        self._streams = [hashlib.sha256() for _ in range(4)]

    def update(self, part: CheckedCodes) -> None:
        """Take the next segments."""
        for stream, array in zip(
            self._streams,
            (
                np.diff(part.codes.indptr).astype("<u4"),
                part.codes.indices.astype("<i4"),
                part.codes.values.astype("<f4"),
                part.present.astype("u1"),
            ),
            strict=True,
        ):
            stream.update(np.ascontiguousarray(array).tobytes())

    def hexdigest(self) -> str:
        """Return the hash of all parts so far."""
        parts = [f"codes of {self._features} features", *(one.hexdigest() for one in self._streams)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_codes(
    codes: ForeignCodes,
    *,
    segments: int,
    features: int | None = None,
    present: NDArray[np.bool_] | None = None,
) -> CheckedCodes:
    """Read codes and check everything about them.

    Args:
        codes: a scipy sparse matrix ``[segments, features]`` of any format; a mapping with the
            columns ``segment`` and ``feature`` (whole numbers from 0) and ``value`` (floats); or
            the path of a ``.npz`` file of ``scipy.sparse.save_npz`` or of a ``.parquet`` file with
            these columns.
        segments: how many segments the probe has.
        features: how many features the dictionary has; needed for columns, since features that
            never fire are not in them.
        present: bool ``[segments]``, false where there is no answer for the segment; None: all
            have one.

    Returns:
        The codes, ascending by segment and feature.

    Raises:
        ShapeError: the codes are of another number of segments or features, or columns differ in
            length.
        InvalidInput: a number is out of range, negative, not finite, of the wrong type, or given
            twice; or codes are given where there is no answer.
        NotFound: there is no such file.
        CorruptData: the file cannot be read.
        MissingExtra: a file is given, and what reads it (pyarrow, scipy) is not installed.
    """
    if not 1 <= segments <= _MOST_SEGMENTS:
        raise InvalidInput(f"a probe of {segments} segments, wanted 1 to {_MOST_SEGMENTS}")
    segment, feature, value, width = _entries(codes, segments, features)
    _check_columns(segment, feature, value)
    _check_range("segment", segment, segments)
    _check_range("feature", feature, width)
    values = _check_values(segment, feature, value)
    keep = values > 0
    row, column, values = segment[keep].astype("i8"), feature[keep].astype("i8"), values[keep]
    cell = row * width + column
    order = np.argsort(cell, kind="stable")
    _check_once(cell[order], width)
    here = _check_present(present, segments, row)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=segments))])
    codes_by_row = Csr(
        indptr=indptr.astype(np.int64),
        indices=column[order].astype(np.int32),
        values=values[order],
    )
    return CheckedCodes(features=width, codes=codes_by_row, present=here)


_Columns: TypeAlias = tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic], int]


def _entries(codes: ForeignCodes, segments: int, features: int | None) -> _Columns:
    """Return segment, feature and value of each entry, and how many features there are."""
    if isinstance(codes, str | Path):
        return _entries(_read_file(Path(codes)), segments, features)
    given = cast("object", codes)  # whatever the caller's types say
    # a sparse matrix first: one format of scipy is a mapping too
    if not isinstance(given, SparseMatrix) and isinstance(given, Mapping):
        columns = cast("Mapping[str, object]", given)
        lacking = [name for name in COLUMNS if name not in columns]
        if lacking:
            raise InvalidInput(
                f"codes have the columns {', '.join(map(str, columns)) or 'none'} and lack "
                f"{', '.join(lacking)}: give {', '.join(COLUMNS)}"
            )
        if features is None:
            raise InvalidInput(
                "codes by columns do not say how many features there are, since some may never "
                "fire: give features="
            )
        segment, feature, value = (np.asarray(columns[name]) for name in COLUMNS)
        return segment, feature, value, _check_width(features)
    if not isinstance(given, SparseMatrix):
        raise InvalidInput(
            f"codes are {type(given).__name__}, wanted a scipy sparse matrix [segments, features], "
            f"columns {', '.join(COLUMNS)}, or the path of a .npz or .parquet file"
        )
    shape = tuple(cast("Iterable[int]", given.shape))
    if len(shape) != 2 or shape[0] != segments or features not in (None, shape[1]):
        wanted = "features" if features is None else features
        raise ShapeError(
            f"codes are {list(shape)}, wanted [{segments}, {wanted}]: a row for each segment of "
            "the probe, in its order (see client.segments), and a column a feature"
        )
    found = given.tocoo()
    row, column, data = (np.asarray(getattr(found, name)) for name in ("row", "col", "data"))
    return row, column, data, _check_width(int(shape[1]))


def _read_file(path: Path) -> ForeignCodes:
    if path.suffix == ".parquet":
        return read_parquet(path, COLUMNS)
    if path.suffix != ".npz":
        raise InvalidInput(
            f"{path} ends in {path.suffix or 'nothing'!r}, wanted .npz (scipy.sparse.save_npz) or "
            f".parquet with the columns {', '.join(COLUMNS)}"
        )
    if not path.is_file():
        raise NotFound(f"there is no file {path}: give the path of a .npz or .parquet file")
    try:  # scipy is imported only here: whoever has no such file need not have it
        from scipy.sparse import load_npz
    except ImportError as error:
        raise MissingExtra(
            "reading .npz codes needs scipy, which is not installed: pip install isogloss[server]"
        ) from error
    try:
        with path.open("rb") as file:
            return cast("SparseMatrix", load_npz(file))  # without unpickling
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptData(
            f"{path} is no sparse matrix of scipy.sparse.save_npz ({error}): write it again"
        ) from error


def _check_width(features: object) -> int:
    if (
        isinstance(features, bool)
        or not isinstance(features, int | np.integer)
        or not 1 <= features < _MOST_FEATURES
    ):
        raise InvalidInput(f"features is {features!r}, wanted a whole number in [1, 2**31)")
    return int(features)


def _check_columns(
    segment: NDArray[np.generic], feature: NDArray[np.generic], value: NDArray[np.generic]
) -> None:
    if segment.ndim != 1 or not segment.shape == feature.shape == value.shape:
        raise ShapeError(
            f"segment {list(segment.shape)}, feature {list(feature.shape)} and value "
            f"{list(value.shape)} must be one number an activation: [entries] each"
        )
    for name, column in (("segment", segment), ("feature", feature)):
        if column.dtype.kind not in "iu":
            raise InvalidInput(f"{name} is {column.dtype}, wanted whole numbers such as int32")
    # ml_dtypes calls the kind of bfloat16 "V"
    if value.dtype.kind != "f" and value.dtype.name != "bfloat16":
        raise InvalidInput(f"value is {value.dtype}, wanted floats such as float32")


def _check_range(name: str, column: NDArray[np.generic], stop: int) -> None:
    # column holds whole numbers, signed or not
    below, above = np.less(column, 0), np.greater_equal(column, stop)  # pyright: ignore[reportArgumentType, reportCallIssue]
    wrong = np.flatnonzero(below | above)
    if wrong.size:
        raise InvalidInput(
            f"{name} {column[wrong[0]]} of entry {wrong[0]} is out of range, as {wrong.size} of "
            f"{len(column)} are: wanted [0, {stop})"
        )


def _check_values(
    segment: NDArray[np.generic], feature: NDArray[np.generic], value: NDArray[np.generic]
) -> NDArray[np.float32]:
    """Return the activations as float32; those that it cannot hold are refused."""
    with np.errstate(over="ignore"):
        values = value.astype(np.float32)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if wrong.size:
        at = wrong[0]
        raise InvalidInput(
            f"activation {value[at]} of feature {feature[at]} on segment {segment[at]} is negative "
            f"or not finite in float32, as {wrong.size} of {len(value)} are: matching takes "
            "activations after ReLU or TopK"
        )
    return values


def _check_once(ascending: NDArray[np.int64], width: int) -> None:
    twice = np.flatnonzero(ascending[1:] == ascending[:-1])
    if twice.size:
        segment, feature = divmod(int(ascending[twice[0]]), width)
        raise InvalidInput(
            f"feature {feature} on segment {segment} is given twice, as {twice.size} entries are: "
            "give each once; if they are parts of one activation, add them up first"
        )


def _check_present(
    present: NDArray[np.bool_] | None, segments: int, segment: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which segments have an answer; refuse codes where there is none."""
    found = np.ones(segments, np.bool_) if present is None else np.asarray(present)
    if found.dtype != np.bool_ or found.shape != (segments,):
        raise ShapeError(f"present is {found.dtype} {list(found.shape)}, wanted bool [{segments}]")
    absent = np.flatnonzero(~found[segment])
    if absent.size:
        raise InvalidInput(
            f"segment {segment[absent[0]]} is not present and has codes, as {absent.size} entries "
            "do: leave them out, or say that the segment is present"
        )
    return found
