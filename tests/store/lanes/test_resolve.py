"""Rows of a revision are found in their lanes, or in those these were joined into."""

from dataclasses import replace

import pytest

from isogloss.errors import CorruptData, InvalidInput, NotFound
from isogloss.store import LaneState, Revision
from isogloss.store.lanes.resolve import LaneRange, resolve
from isogloss.store.lanes.seal import LanePart, Seal

JOINED = Seal(
    lane="1.j",
    epoch=1,
    rows=7,
    frames=3,
    log_bytes=64,
    reason="closed",
    parts=(
        LanePart(lane="1.a", first_row=0, rows=4, first_document=0, documents=2),
        LanePart(lane="2.b", first_row=4, rows=3, first_document=2, documents=1),
    ),
)
STATES = [
    LaneState(name="1.j", rows=7, cursors={}, seal=JOINED),
    LaneState(name="3.c", rows=5, cursors={}, seal=None),
]


def found(*lanes: tuple[str, int]) -> list[LaneRange]:
    return resolve(Revision(recording="r", lanes=lanes), STATES)


def test_lanes_that_count_are_themselves() -> None:
    assert found(("1.j", 7), ("3.c", 2)) == [
        LaneRange(lane="1.j", first=0, rows=7, documents=None, is_sealed_lane=True),
        LaneRange(lane="3.c", first=0, rows=2, documents=None, is_sealed_lane=False),
    ]


def test_joined_lanes_are_parts_and_neighbours_are_one_range() -> None:
    part = LaneRange(lane="1.j", first=4, rows=2, documents=(2, 3), is_sealed_lane=False)
    assert found(("2.b", 2)) == [part]
    assert found(("1.a", 4), ("2.b", 3)) == [
        LaneRange(lane="1.j", first=0, rows=7, documents=None, is_sealed_lane=True)
    ]
    apart = found(("1.a", 3), ("2.b", 3))
    assert [(r.first, r.rows, r.documents) for r in apart] == [(0, 3, (0, 2)), (4, 3, (2, 3))]


def test_rows_that_are_gone_or_were_never_proven_are_named() -> None:
    with pytest.raises(NotFound, match=r"4\.d"):
        found(("4.d", 1))
    for lane, rows in (("3.c", 6), ("2.b", 4)):
        with pytest.raises(InvalidInput, match="and is whole: give a revision as the store gave"):
            found((lane, rows))


def test_rows_that_a_disk_lost_are_its_fault_and_not_the_callers() -> None:
    seal = replace(JOINED, lane="5.e", parts=(), reason="recovered", damage="frame 3: checksum")
    cut = LaneState(name="5.e", rows=7, cursors={}, seal=seal)
    with pytest.raises(CorruptData, match=r"cut after a disk failure \(frame 3: checksum\)"):
        resolve(Revision(recording="r", lanes=(("5.e", 8),)), [cut])
