"""Pairs of a match as files, which read back as they were, with what they were made of."""

import csv
import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
from tests.service.pages import report_example

from isogloss.errors import CorruptData
from isogloss.service.pages.tables import pair_table, provenance_of, write_table
from isogloss.service.values.results import MatchInfo, PairInfo


def pair(number: int) -> PairInfo:
    """A pair whose numbers are all different; every third has no token null."""
    values: dict[str, object] = {}
    for place, field in enumerate(fields(PairInfo)):
        kind = str(getattr(field.type, "__name__", field.type))
        values[field.name] = {
            "int": 100 * place + number,
            "float": (place + number / 7) / 50,
            "bool": number % 2 == 0,
            "str": f"label {number}",
        }[kind]
    if number % 3 == 0:
        values["token_null"] = math.nan
    return PairInfo(**values)  # pyright: ignore[reportArgumentType]


PAIRS = [pair(number) for number in range(7)]
MATCH = MatchInfo(
    id="m",
    uid="u",
    etag="e",
    a="left",
    b="right",
    probe="p",
    pairs=7,
    text="",
    created=1.0,
    details=report_example.report(),
)


def check(name: str, found: object, wanted: object) -> None:
    if isinstance(wanted, float) and math.isnan(wanted):
        assert found in (None, ""), name
    else:
        assert found == wanted or str(wanted) == found, f"{name}: {found!r} for {wanted!r}"


def test_csv_reads_back_with_every_column_and_provenance_beside(tmp_path: Path) -> None:
    table, made_of = pair_table(PAIRS), provenance_of(MATCH)
    write_table(tmp_path / "pairs.csv", table, made_of)
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*(field.name for field in fields(PairInfo)), "excess"]
    for row, wanted in zip(rows, PAIRS, strict=True):
        for name, text in row.items():
            check(name, text, getattr(wanted, name))
    assert json.loads((tmp_path / "pairs.provenance.json").read_text()) == made_of


def test_json_holds_both_and_null_for_what_is_unknown(tmp_path: Path) -> None:
    made_of = provenance_of(MATCH)
    write_table(tmp_path / "pairs.json", pair_table(PAIRS), made_of)
    found = json.loads((tmp_path / "pairs.json").read_text())
    assert found["provenance"] == made_of
    assert list(tmp_path.iterdir()) == [tmp_path / "pairs.json"]
    for name, column in found["pairs"].items():
        for value, wanted in zip(column, PAIRS, strict=True):
            check(name, value, getattr(wanted, name))


def test_parquet_holds_both(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "pairs.parquet", pair_table(PAIRS), provenance_of(MATCH))
    table = parquet.read_table(tmp_path / "pairs.parquet")
    assert json.loads(table.schema.metadata[b"provenance"]) == provenance_of(MATCH)
    assert table.column("r").to_pylist() == [one.r for one in PAIRS]
    assert table.column("replicates").to_pylist() == [one.replicates for one in PAIRS]


def test_provenance_names_what_the_match_was_made_of() -> None:
    found = provenance_of(MATCH)
    assert (found["match"], found["uid"], found["etag"]) == ("m", "u", "e")
    side = found["a"]
    assert isinstance(side, dict)
    assert {"weights_sha256", "init_hash", "recording_uid", "revision", "uid"} <= set(side)
    assert side["weights_sha256"]
    settings = found["settings"]
    assert isinstance(settings, dict)
    assert settings["min_fires"]
    with pytest.raises(CorruptData, match="sides"):
        provenance_of(replace(MATCH, details={**MATCH.details, "sides": 3}))


def test_a_match_without_pairs_is_a_table_of_titles(tmp_path: Path) -> None:
    write_table(tmp_path / "none.csv", pair_table([]), {})
    assert len((tmp_path / "none.csv").read_text().splitlines()) == 1
