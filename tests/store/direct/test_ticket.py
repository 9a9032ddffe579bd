"""Tickets are read back, and refused when they were changed or point elsewhere."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.errors import (
    CorruptData,
    InvalidInput,
)
from isogloss.store import LaneLimits, Recording, Store
from isogloss.store.direct.ticket import DirectLaneTicket
from isogloss.store.disk import signed_json
from isogloss.store.lanes.log_scan import LaneHeader
from isogloss.store.recordings.open_direct_lane import open_direct_lane
from isogloss.store.testing import sample_spec

SPEC = sample_spec()


SHARD_BYTES = 8 << 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root) as opened:
        opened.create_recording(SPEC, ["a", "b"], shard_bytes=SHARD_BYTES)
        yield opened


@pytest.fixture
def recording(store: Store) -> Recording:
    return store.recording("sample")


def test_a_ticket_survives_its_way_and_damage_is_found(recording: Recording) -> None:
    ticket = recording.offer_direct_lane(["p"], LaneLimits(max_rows=7))
    assert DirectLaneTicket.from_bytes(ticket.to_bytes()) == ticket
    with pytest.raises(CorruptData, match="checksum"):
        DirectLaneTicket.from_bytes(ticket.to_bytes().replace(b'"p"', b'"q"'))
    with pytest.raises(CorruptData):
        DirectLaneTicket.from_bytes(b"{")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("directory", "../../elsewhere", "points to"),
        ("directory", "/tmp/elsewhere", "points to"),
        ("directory", "recordings/x/lanes/../../../..", "points to"),
        ("lane", "../../../elsewhere", "lane"),
        ("lane", "00000001.zz", "lane"),
        ("recording", "../elsewhere", "uid"),
        ("cursors", {}, "0 producers"),
        ("cursors", {"": 0}, "0 characters"),
        ("cursors", {"p": -1}, "cursors|wanted an integer"),
        ("cursors", {f"p{i}": 0 for i in range(1000)}, "1000 producers"),
        ("shard_bytes", 0, "shard_bytes"),
        ("rows_before", "many", "rows_before"),
    ],
)
def test_a_ticket_that_points_outside_or_makes_no_sense_is_refused(
    root: Path, recording: Recording, field: str, value: object, message: str
) -> None:
    document = json.loads(recording.offer_direct_lane(["p"]).to_bytes())
    forged = signed_json.encode({**document, field: value})
    before = sorted(root.parent.rglob("*"))
    with pytest.raises(InvalidInput, match=message):
        open_direct_lane(root, forged)
    assert sorted(root.parent.rglob("*")) == before


def test_a_lane_is_that_of_its_ticket_and_of_no_other(recording: Recording) -> None:
    ticket = recording.offer_direct_lane(["p"])
    header = LaneHeader(
        recording=ticket.recording,
        lane=ticket.lane,
        epoch=ticket.epoch,
        layouts=ticket.layouts,
        created_s=1.0,
    )
    assert ticket.is_header(header)
    for other in (
        replace(header, recording="0" * 24),
        replace(header, lane="00000009.0123456789abcdef"),
        replace(header, epoch=ticket.epoch + 1),
        replace(header, layouts=ticket.layouts[:-1]),
    ):
        assert not ticket.is_header(other)
    assert ticket.is_header(replace(header, created_s=2.0))
