"""The oldest lanes are retired; cursors and documents stay."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    NotFound,
)
from isogloss.store import Store
from isogloss.store.testing import (
    PowerLoss,
    SimulatedDisk,
    sample_batch,
    sample_spec,
)
from isogloss.store.testing.disk import Survival
from isogloss.store.testing.scenario import open_recording, run

SPEC = sample_spec()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a", "b"], shard_bytes=3 << 10)
        for first in (1, 5):
            with recording.open_lane() as lane:
                for sequence in range(first, first + 4):
                    lane.append([sample_batch(SPEC, "p", sequence)])
            if first == 1:
                recording.derive()
        recording.open_lane().append([sample_batch(SPEC, "p", 9)])
        yield store


def test_the_oldest_lanes_make_room_and_nothing_begins_anew(store: Store) -> None:
    recording = store.recording("sample")
    pinned, revision = recording.reader(), recording.revision()
    pinned.read("layer.1/out", 0, pinned.rows)
    rows = [lane.rows for lane in recording.lanes()]
    assert recording.retire(sum(rows)) == 0
    assert recording.retire(rows[2]) == rows[0] + rows[1]
    assert recording.retire(0) == 0
    assert recording.revision().rows == rows[2]
    assert recording.cursor("p") == 9
    wanted = sample_batch(SPEC, "p", 9).sites["layer.2"]
    assert recording.reader().read("layer.2", 0, rows[2]).tobytes() == wanted.tobytes()
    assert len(recording.reader().documents()) == 9
    assert len(pinned.read("layer.1/out", 0, pinned.rows)) == sum(rows)
    with pytest.raises(NotFound, match="take a new one"):
        recording.reader(revision)
    assert store.verify() == []
    recording.close()
    with recording.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", 10)])
    lanes = recording.directory / "lanes"
    assert sorted(path.name for path in (lanes / revision.lanes[0][0]).iterdir()) == [
        "documents",
        "seal.json",
    ]


@pytest.mark.parametrize("survival", ["dropped", "kept", "mixed"])
def test_power_may_go_at_any_moment_of_retiring(survival: Survival) -> None:
    after, ended = 0, False
    while not ended:
        after += 4
        disk = SimulatedDisk()
        run(disk, lives=2, groups=1)
        keep = open_recording(disk).lanes()[1].rows
        disk.stop_at = disk.operations + after
        try:
            open_recording(disk).retire(keep)
            ended = True
        except PowerLoss:
            pass
        left = disk.after_power_loss(survival, after)
        recording = open_recording(left)
        assert [lane.rows for lane in recording.lanes()][-1] == keep
        assert recording.cursor("p") == 4
        recording.retire(keep)
        assert recording.reader().rows == keep
        assert len(recording.reader().documents()) == 8
        assert recording.verify() == []
    assert after > 8
