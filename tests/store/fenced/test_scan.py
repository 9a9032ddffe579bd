"""What the records of a fenced lane prove, read at once or bit by bit, up to its fence."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.errors import CorruptData
from isogloss.store import Store
from isogloss.store.fenced.records import BIRTHS, Fence, LaneRecords
from isogloss.store.fenced.scan import (
    FencedScan,
    cut_scan,
    end_scan,
    read_birth,
    read_births,
    scan_records,
)
from isogloss.store.recordings.recording import Recording
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    with Store.open(tmp_path, fencing="create") as store:
        yield store.create_recording(SPEC, [])


def born(recording: Recording) -> tuple[LaneRecords, FencedScan]:
    """Return the one lane of a recording, without its commits."""
    known: dict[str, FencedScan] = {}
    (name,) = read_births(recording.files, recording.directory, known)
    return LaneRecords(recording.files, recording.directory, name), known["00000001"]


def test_a_lane_exists_once_it_was_born_and_is_in_shards_once_moved(recording: Recording) -> None:
    known: dict[str, FencedScan] = {}
    assert read_births(recording.files, recording.directory, known) == {}
    with recording.open_lane() as lane:
        assert read_births(recording.files, recording.directory, known) == {lane.name: False}
        lane.append([sample_batch(SPEC, "p", 1)])
    recording.derive()
    assert read_births(recording.files, recording.directory, known) == {lane.name: True}
    assert set(known) == {"00000001"}


def test_a_scan_goes_on_where_it_ended_and_ends_at_the_fence(recording: Recording) -> None:
    lane = recording.open_lane()
    lane.append([sample_batch(SPEC, "p", 1)])
    records, scan = born(recording)
    assert scan_records(records, scan).cursors == {"p": 1}
    lane.append([sample_batch(SPEC, "p", 2)])
    lane.close()
    assert scan_records(records, scan) is scan
    assert (scan.rows, scan.cursors, scan.next) == (lane.rows, {"p": 2}, 3)
    assert scan.fence is not None
    assert (scan.fence.reason, scan.fence.rows, scan.fence.frames) == ("closed", lane.rows, 3)
    _, again = born(recording)
    assert scan_records(records, again) == scan


def test_commits_that_a_fence_leaves_out_are_cut(recording: Recording) -> None:
    lane = recording.open_lane()
    for sequence in (1, 2, 3):
        lane.append([sample_batch(SPEC, "p", sequence)])
    records, scan = born(recording)
    scan_records(records, scan)
    cut = replace(scan, commits=list(scan.commits), cursors=dict(scan.cursors))
    cut_scan(cut, 1)
    assert (cut.rows, cut.cursors) == (sample_batch(SPEC, "p", 1).rows, {"p": 1})
    end_scan(scan, Fence(owner=9, reason="recovered", commits=2, damage="bad"))
    assert scan.fence is not None
    assert (scan.fence.damage, scan.fence.frames) == ("bad", 3)
    assert scan.cursors == {"p": 2}


def test_damage_of_a_birth_or_a_commit_is_named(recording: Recording) -> None:
    lane = recording.open_lane()
    lane.append([sample_batch(SPEC, "p", 1)])
    records, scan = born(recording)
    path = records.commit(1)
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    with pytest.raises(CorruptData, match=r"commit 1 .* checksum"):
        scan_records(records, scan)
    content = (recording.directory / BIRTHS / "00000001").read_bytes()
    for changed in (content[:20], content[:-1] + b"X", path.read_bytes()):
        with pytest.raises(CorruptData, match="it"):
            read_birth(changed, "it")
