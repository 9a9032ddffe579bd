"""Columns of numbers and text as Parquet files, by pyarrow (extra ``parquet``)."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, MissingExtra, NotFound, StorageError


def read_parquet(path: Path, columns: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Read columns of a Parquet file.

    Args:
        path: the file.
        columns: names of the columns to read; others are ignored.

    Returns:
        The columns by name, in one piece each.

    Raises:
        MissingExtra: pyarrow is not installed.
        NotFound: there is no such file.
        CorruptData: it is no Parquet file.
        InvalidInput: it lacks a column, or a column holds nulls.
    """
    parquet = _pyarrow("pyarrow.parquet")
    if not path.is_file():
        raise NotFound(f"there is no file {path}: give the path of a Parquet file")
    try:
        with parquet.ParquetFile(path) as file:
            known = list(file.schema_arrow.names)
            lacking = [name for name in columns if name not in known]
            if lacking:
                raise InvalidInput(
                    f"{path} has the columns {', '.join(known)} and lacks {', '.join(lacking)}"
                )
            table = file.read(columns=list(columns))
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise CorruptData(f"{path} is no Parquet file that can be read ({error})") from error
    found: dict[str, NDArray[np.generic]] = {}
    for name in columns:
        column = table.column(name)
        if column.null_count:
            raise InvalidInput(
                f"column {name} of {path} has {column.null_count} nulls: leave those entries out"
            )
        found[name] = np.asarray(column.to_numpy())
    return found


def write_parquet(
    path: Path,
    columns: Mapping[str, NDArray[np.generic] | Sequence[object]],
    metadata: Mapping[str, str],
) -> None:
    """Write columns as a Parquet file, whole or not at all.

    Args:
        path: the file; replaced if it is there.
        columns: by name, equally long: numbers, truth values, times or text; None: not known.
        metadata: texts kept in the file's schema.

    Raises:
        MissingExtra: pyarrow is not installed.
        StorageError: the file cannot be written.
    """
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    table = arrow.table({name: arrow.array(column) for name, column in columns.items()})
    table = table.replace_schema_metadata(dict(metadata))
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        parquet.write_table(table, partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written ({error})") from error


def _pyarrow(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(
            "Parquet needs pyarrow, which is not installed: pip install isogloss[parquet], or "
            "give another form, such as CSV"
        ) from error
