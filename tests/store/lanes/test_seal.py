"""Seals are read back, and damage in them is named."""

from pathlib import Path

import pytest

from isogloss.errors import CorruptData, InvalidInput
from isogloss.store import FileSystem
from isogloss.store.disk import signed_json
from isogloss.store.lanes.lane_directory import SEAL_NAME
from isogloss.store.lanes.seal import LanePart, Seal, read_seal, write_seal

PART = LanePart(lane="00000001.a", first_row=0, rows=4, first_document=0, documents=2)
SEAL = Seal(
    lane="00000001.b",
    epoch=0xB,
    rows=9,
    frames=3,
    log_bytes=400,
    cursors={"p": 5},
    reason="recovered",
    damage="frame 4",
    parts=(PART, PART.shifted(4, 2)),
)


def test_a_seal_is_read_back_and_missing_before(tmp_path: Path) -> None:
    files = FileSystem()
    assert read_seal(files, tmp_path) is None
    write_seal(files, tmp_path, SEAL)
    assert read_seal(files, tmp_path) == SEAL
    assert SEAL.part("00000001.a") == PART
    assert SEAL.part("00000009.z") is None
    assert SEAL.parts[1] == LanePart(
        lane="00000001.a", first_row=4, rows=4, first_document=2, documents=2
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reason", "because"),
        ("rows", -1),
        ("parts", [["a", 0, 1]]),
        ("parts", [["a", 0, 1, -1, 1]]),
    ],
)
def test_a_seal_that_makes_no_sense_is_refused(tmp_path: Path, field: str, value: object) -> None:
    document = {**SEAL.to_dict(), field: value}
    FileSystem().write_atomic(tmp_path / SEAL_NAME, signed_json.encode(document))
    with pytest.raises((CorruptData, InvalidInput)):
        read_seal(FileSystem(), tmp_path)


def test_a_damaged_seal_is_named(tmp_path: Path) -> None:
    write_seal(FileSystem(), tmp_path, SEAL)
    path = tmp_path / SEAL_NAME
    path.write_bytes(path.read_bytes().replace(b'"rows": 9', b'"rows": 8'))
    with pytest.raises(CorruptData, match="checksum"):
        read_seal(FileSystem(), tmp_path)
