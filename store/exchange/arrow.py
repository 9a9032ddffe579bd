"""Rows as Arrow record batches, for what takes them through the Arrow C data interface.

pyarrow, polars, DuckDB and others do, without a copy. nanoarrow (extra ``arrow``, 1 MB, no
dependencies) builds them; pyarrow itself is not needed.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, MissingExtra
from isogloss.store.reading.ranges import RangeBatch
from isogloss.store.reading.reader import RecordingReader


@runtime_checkable
class ArrowBatch(Protocol):
    """A record batch: what ``pyarrow.record_batch`` and ``polars.from_arrow`` take."""

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        """Return the capsules of its schema and its array."""
        ...


def arrow_batches(
    reader: RecordingReader,
    sites: Sequence[str],
    *,
    batch_rows: int = 4096,
    start: int = 0,
    stop: int | None = None,
) -> Iterator[ArrowBatch]:
    """Yield rows in the order of the recording as Arrow record batches.

    A batch has the columns ``row`` (int64), the recording's token columns (``token_id`` and
    ``position`` uint32, ``document`` uint64, ``span`` two uint32), then one a site: a fixed-size
    list of its width. Arrow has no bfloat16: it becomes float32, exactly. No value is null.

    Args:
        reader: the recording, pinned by its revision.
        sites: names of the sites to read together.
        batch_rows: rows of a batch; the last may have fewer.
        start: number of the first row.
        stop: number of the row after the last; None: to the end.

    Returns:
        An iterator over the batches. They keep their memory alive.

    Raises:
        MissingExtra: nanoarrow is not installed.
        NotFound: the recording has no such site.
        InvalidInput: a site has the name of a token column, or ``batch_rows`` is below 1.
        ShapeError: rows ``[start, stop)`` are not all in the revision.
    """
    taken = {"row", *reader.column_names}
    if doubled := sorted(taken.intersection(sites)):
        raise InvalidInput(
            f"site {doubled[0]!r} has the name of a token column, and Arrow batches have both: "
            "read it with RecordingReader.batches"
        )
    try:
        nanoarrow = import_module("nanoarrow")
    except ImportError as error:
        raise MissingExtra(
            "Arrow batches need nanoarrow, which is not installed: pip install isogloss[arrow]"
        ) from error
    batches = reader.batches(sites, batch_rows=batch_rows, start=start, stop=stop)
    return (_record_batch(nanoarrow, batch, reader.column_names) for batch in batches)


def _record_batch(arrow: ModuleType, batch: RangeBatch, names: Sequence[str]) -> ArrowBatch:
    columns = {"row": np.arange(batch.start, batch.start + batch.rows, dtype=np.int64)}
    columns |= {name: getattr(batch.tokens, name) for name in names}
    columns |= {
        site: rows.astype(np.float32) if rows.dtype.name == "bfloat16" else rows
        for site, rows in batch.sites.items()
    }
    made = {name: _column(arrow, values) for name, values in columns.items()}
    schema = arrow.struct({name: kind for name, (kind, _) in made.items()}, nullable=False)
    children = [array for _, array in made.values()]
    return arrow.c_array_from_buffers(schema, batch.rows, [None], null_count=0, children=children)


def _column(arrow: ModuleType, values: NDArray[np.generic]) -> tuple[object, object]:
    """Return type and array of ``[rows]`` numbers, or of ``[rows, width]`` as lists."""
    kind = getattr(arrow, values.dtype.name)(nullable=False)
    flat = np.ascontiguousarray(values).reshape(-1)
    array = arrow.c_array_from_buffers(kind, len(flat), [None, flat], null_count=0)
    if values.ndim == 1:
        return kind, array
    lists = arrow.fixed_size_list(kind, values.shape[1], nullable=False)
    return lists, arrow.c_array_from_buffers(
        lists, len(values), [None], null_count=0, children=[array]
    )
