"""The pairs of a match as a table for other programs, with what the match was made of."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.service.pages.report_data import Node
from isogloss.service.values.results import MatchInfo, PairInfo
from isogloss.store import FileSystem, write_parquet

PairTable = Mapping[str, NDArray[np.generic]]


def pair_table(pairs: Sequence[PairInfo]) -> dict[str, NDArray[np.generic]]:
    """Return pairs as columns: every field of ``PairInfo`` and ``excess``, in one order."""
    kinds = {field.name: field.type for field in fields(PairInfo)}
    columns: dict[str, NDArray[np.generic]] = {}
    for name, kind in kinds.items():
        dtype = {int: np.int64, float: np.float64, bool: np.bool_, str: np.str_}[_kind(kind)]
        columns[name] = np.array([getattr(pair, name) for pair in pairs], dtype)
    columns["excess"] = np.array([pair.excess for pair in pairs], np.float64)
    return columns


def _kind(found: object) -> type:
    return {"int": int, "float": float, "bool": bool, "str": str}[
        found.__name__ if isinstance(found, type) else str(found)
    ]


def provenance_of(match: MatchInfo) -> dict[str, object]:
    """Return what a match was made of, as JSON values: enough to make it again and to compare.

    Args:
        match: with its details.

    Raises:
        CorruptData: the details lack a field.
    """
    report = Node(match.details, "report")
    data = report.node("data")
    sides: dict[str, object] = {}
    for key in "ab":
        side = report.node("sides").node(key)
        made = side.node("provenance")
        sides[key] = {
            **{name: side.text(name) for name in ("dictionary", "uid", "model", "site")},
            **{name: side.text(name) for name in ("recording", "recording_uid", "revision")},
            "weights_sha256": made.text("weights_sha256", ""),
            "init_hash": made.text("init_hash", ""),
            "codes_sha256": made.text("codes_sha256", ""),
        }
    return {
        "isogloss": report.text("isogloss"),
        "match": match.id,
        "uid": match.uid,
        "etag": match.etag,
        "created": report.number("created"),
        "probe": {"id": match.probe, "uid": report.node("probe").text("uid")},
        **sides,
        "settings": data.node("settings").plain_fields,
        "cautions": [node.text("code") for node in data.nodes("cautions")],
        "references": [
            {"role": node.text("role"), "match": node.text("match")}
            for node in (data.nodes("references") if "references" in data else ())
        ],
    }


def write_table(path: Path, table: PairTable, made_of: Mapping[str, object]) -> None:
    """Write a table and what it was made of; the ending of the path says in which form.

    Raises:
        MissingExtra: Parquet is asked for, and pyarrow is not installed.
        StorageError: a file cannot be written.
    """
    files, described = FileSystem(), json.dumps(made_of, sort_keys=True, ensure_ascii=False)
    if path.suffix == ".parquet":
        write_parquet(path, table, {"provenance": described})
        return
    if path.suffix == ".json":
        columns = {name: [_json(value) for value in column] for name, column in table.items()}
        text = json.dumps({"provenance": made_of, "pairs": columns}, ensure_ascii=False)
        files.write_whole(path, [text.encode()])
        return
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        # repr of a float reads back as the same float; an unknown value is an empty cell
        writer.writerow("" if (value := _json(cell)) is None else value for cell in row)
    files.write_whole(path, [out.getvalue().encode()])
    beside = path.with_name(f"{path.stem}.provenance.json")
    files.write_whole(beside, [f"{described}\n".encode()])


def _json(value: np.generic) -> object:
    """Return a number or text as JSON holds it; None for what is not finite."""
    found = value.item()
    return None if isinstance(found, float) and not np.isfinite(found) else found
