"""What a log proves, read at once or bit by bit."""

from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.errors import CorruptData, UnsupportedVersion
from isogloss.store.lanes.lane_directory import LOG_NAME
from isogloss.store.lanes.log_frames import KIND_COMMIT, CommitFrame, encode_frame, read_frames
from isogloss.store.lanes.log_scan import LaneHeader, LaneScan, is_durable, scan_log
from isogloss.store.lanes.writer import LaneWriter
from isogloss.store.testing import SimulatedDisk, sample_batch
from isogloss.store.testing.scenario import ROOT, SPEC, open_recording, run


class Written:
    """A lane on a simulated disk, with its log open."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk()
        run(self.disk, lives=0)
        self.lane: LaneWriter = open_recording(self.disk).open_lane()
        self.directory = ROOT / "lanes" / self.lane.name
        self.log = self.disk.open(self.directory / LOG_NAME)

    def append(self, sequence: int) -> None:
        self.lane.append([sample_batch(SPEC, "p", sequence)])

    @property
    def commits(self) -> list[CommitFrame]:
        frames = [frame for frame in read_frames(self.disk, self.log) if frame.number]
        return [CommitFrame.from_payload(frame.payload) for frame in frames]


@pytest.fixture
def written() -> Written:
    return Written()


def test_a_scan_goes_on_where_the_last_one_ended(written: Written) -> None:
    written.append(1)
    first = scan_log(written.disk, written.log)
    assert first is not None
    assert (first.frames, first.cursors) == (2, {"p": 1})
    written.append(2)
    whole = scan_log(written.disk, written.log)
    later = scan_log(written.disk, written.log, known=first)
    assert later == whole
    assert later is not None
    assert (later.rows, later.log_bytes) == (written.lane.rows, written.lane.log_bytes)


def test_a_scan_ends_before_a_byte_and_before_a_newest_commit_that_is_not_whole(
    written: Written,
) -> None:
    for sequence in (1, 2, 3):
        written.append(sequence)
    ends = [frame.end for frame in read_frames(written.disk, written.log)]
    found = scan_log(written.disk, written.log, stop=ends[2] + 1, keep_tail=True)
    assert isinstance(found, LaneScan)
    assert (found.frames, found.log_bytes) == (3, ends[2])
    assert [end for _, _, end in found.tail] == ends[1:3]
    asked: list[CommitFrame] = []
    found = scan_log(written.disk, written.log, is_whole=lambda c: bool(asked.append(c)))
    assert found is not None
    assert found.cursors == {"p": 2}
    assert [dict(commit.cursors) for commit in asked] == [{"p": 3}]


def test_a_commit_that_does_not_follow_is_damage(written: Written) -> None:
    written.append(1)
    commit = replace(written.commits[0], first_row=written.lane.rows + 1)
    epoch = int(written.lane.name.partition(".")[2], 16)
    pieces = encode_frame(KIND_COMMIT, epoch, 2, commit.to_buffers())
    written.disk.write(written.log, pieces, written.lane.log_bytes)
    with pytest.raises(CorruptData, match=r"frame 2 .* starts at row"):
        scan_log(written.disk, written.log)


def test_a_log_without_frame_0_is_no_lane(written: Written) -> None:
    empty = written.disk.create(Path("/empty"))
    assert scan_log(written.disk, empty) is None


def test_the_newest_commit_is_durable_once_its_rows_match(written: Written) -> None:
    written.append(1)
    (commit,) = written.commits
    assert is_durable(written.disk, written.directory, written.log, commit)
    wrong = replace(commit.ranges[0], checksum=commit.ranges[0].checksum ^ 1)
    changed = replace(commit, ranges=(wrong, *commit.ranges[1:]))
    assert not is_durable(written.disk, written.directory, written.log, changed)


def test_a_header_of_a_later_version_is_refused(written: Written) -> None:
    scan = scan_log(written.disk, written.log)
    assert scan is not None
    assert LaneHeader.from_dict(scan.header.to_dict()) == scan.header
    with pytest.raises(UnsupportedVersion, match="lane has schema version 2"):
        LaneHeader.from_dict({**scan.header.to_dict(), "schema_version": 2})
