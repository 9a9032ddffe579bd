"""The oldest lanes are retired; cursors and documents stay."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
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
        "known",
        "seal.json",
    ]


def test_documents_stay_known_at_their_step_when_their_rows_are_retired(tmp_path: Path) -> None:
    first, second = sample_batch(SPEC, "p", 1), sample_batch(SPEC, "p", 2, step=3)
    again = replace(first, sequence=3, step=3)
    later = sample_batch(SPEC, "p", 4, step=3)
    document = first.documents[0].id
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, [])
        for group in ([first, second], [again, later]):
            with recording.open_lane() as lane:
                lane.append(group)
        known = {step: recording.reader().known_documents(step) for step in (0, 3, 4)}
        assert known[0] == {document: first.rows}
        assert known[3][document] == first.rows
        for kept, steps in ((again.rows + later.rows, [3]), (0, [])):
            recording.retire(kept)
            reader = recording.reader()
            assert {step: reader.known_documents(step) for step in (0, 3, 4)} == known
            assert [step.step for step in reader.steps()] == steps
            assert not reader.keep_steps([0]).any()
            assert recording.verify() == []


def test_documents_that_an_earlier_release_retired_are_known_without_their_rows(
    store: Store,
) -> None:
    recording = store.recording("sample")
    before = recording.reader().known_documents()
    rows = [lane.rows for lane in recording.lanes()]
    recording.retire(rows[1] + rows[2])
    assert recording.reader().known_documents() == before
    shutil.rmtree(recording.directory / "lanes" / recording.lanes()[0].name / "known")
    gone = {sample_batch(SPEC, "p", number).documents[0].id for number in range(1, 5)}
    wanted = {document: 0 if document in gone else count for document, count in before.items()}
    assert recording.reader().known_documents() == wanted
    assert recording.reader().known_documents(1) == {}


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
        known = [recording.reader().known_documents(step) for step in (0, 5)]
        assert [len(found) for found in known] == [7, 1]
        assert all(rows > 0 for found in known for rows in found.values())
        assert recording.verify() == []
    assert after > 8
