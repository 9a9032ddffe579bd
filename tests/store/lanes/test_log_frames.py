"""Frames of a commit log are read back whole, in order, or not at all."""

from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData
from isogloss.store.lanes.log_frames import (
    KIND_COMMIT,
    KIND_LANE,
    CommitFrame,
    encode_frame,
    find_frame_after,
    lane_payload,
    read_frame,
    read_frames,
    read_payload_json,
)
from isogloss.store.shards.byte_range import ByteRange
from isogloss.store.testing import SimulatedDisk, sample_batch, sample_spec

SPEC = sample_spec()
EPOCH = 7


def commit(sequence: int) -> CommitFrame:
    batch = sample_batch(SPEC, "p", sequence)
    return CommitFrame(
        first_row=0,
        rows=batch.rows,
        time_s=1.5,
        cursors={"p": sequence},
        ranges=(ByteRange(site=0, shard=1, offset=4096, length=8, checksum=9),),
        columns=batch.columns,
        documents=batch.documents,
    )


def log(*epochs: int) -> tuple[SimulatedDisk, int, list[bytes]]:
    """Return an open log of one frame an epoch, numbered in order, and the frames' bytes."""
    frames = [
        b"".join(
            bytes(piece)
            for piece in encode_frame(
                KIND_COMMIT if number else KIND_LANE,
                epoch,
                number,
                commit(number).to_buffers() if number else lane_payload({"a": "b"}),
            )
        )
        for number, epoch in enumerate(epochs)
    ]
    disk = SimulatedDisk()
    descriptor = disk.create(Path("/log"))
    disk.write(descriptor, frames, 0)
    return disk, descriptor, frames


def test_a_commit_is_read_back() -> None:
    disk, descriptor, frames = log(EPOCH, EPOCH)
    first, second = read_frames(disk, descriptor)
    assert read_payload_json(first.payload)[0] == {"a": "b"}
    found, wanted = CommitFrame.from_payload(second.payload), commit(1)
    assert (found.rows, found.cursors, found.ranges) == (wanted.rows, {"p": 1}, wanted.ranges)
    assert found.documents == wanted.documents
    assert found.columns.token_id.tobytes() == wanted.columns.token_id.tobytes()
    assert found.columns.span is not None
    assert (second.offset, second.end) == (len(frames[0]), sum(map(len, frames)))
    assert all(len(frame) % 8 == 0 for frame in frames)


def test_a_frame_cut_or_changed_anywhere_is_none() -> None:
    _, _, frames = log(EPOCH, EPOCH)
    whole = frames[1]
    for at in range(0, len(whole), 3):
        for changed in (whole[:at], whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :]):
            disk = SimulatedDisk()
            descriptor = disk.create(Path("/log"))
            disk.write(descriptor, [changed], 0)
            assert read_frame(disk, descriptor, 0, len(changed)) is None


def test_reading_ends_at_a_frame_of_another_epoch_or_number() -> None:
    disk, descriptor, frames = log(EPOCH, EPOCH, EPOCH + 1, EPOCH)
    assert [frame.number for frame in read_frames(disk, descriptor)] == [0, 1]
    start = len(frames[0])
    assert [f.number for f in read_frames(disk, descriptor, start=start, first=1)] == [1]
    assert list(read_frames(disk, descriptor, start=start, first=2)) == []
    assert list(read_frames(disk, descriptor, epoch=EPOCH + 1)) == []


def test_a_sound_frame_behind_a_broken_one_is_found() -> None:
    disk, descriptor, frames = log(EPOCH, EPOCH, EPOCH)
    broken = len(frames[0])
    disk.write(descriptor, [b"X"], broken + 40)
    found = find_frame_after(disk, descriptor, start=broken, number=1, epoch=EPOCH)
    assert found is not None
    assert found.number == 2
    assert find_frame_after(disk, descriptor, start=broken, number=1, epoch=EPOCH + 1) is None
    assert find_frame_after(disk, descriptor, start=broken, number=3, epoch=EPOCH) is None


def test_a_payload_that_is_no_commit_is_damage() -> None:
    for document in ({}, {"rows": -1}, {"rows": 1 << 40, "documents": []}):
        payload = b"".join(bytes(piece) for piece in lane_payload(document))
        with pytest.raises(CorruptData, match="commit frame"):
            CommitFrame.from_payload(np.frombuffer(payload, np.uint8))
