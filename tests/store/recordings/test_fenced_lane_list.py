"""Which lanes of a fenced recording count: in commits first, in shards once they were moved."""

from pathlib import Path

import pytest

from isogloss.errors import CorruptData, Fenced
from isogloss.store import Store
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()


def append(recording: FencedRecording, sequence: int) -> str:
    with recording.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", sequence)])
    return lane.name


def create(store: Store) -> FencedRecording:
    recording = store.create_recording(SPEC, [])
    assert isinstance(recording, FencedRecording)
    return recording


def test_lanes_are_listed_in_order_wherever_their_rows_are(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = create(store)
        first = append(recording, 1)
        assert recording.move_to_shards() == 1
        second = append(recording, 2)
        with Store.attach(tmp_path) as attached:
            for found in (recording, attached.recording("sample")):
                states = found.lanes()
                assert [state.name for state in states] == [first, second]
                assert [state.seal is None for state in states] == [False, True]
                assert check_sample(found.reader(), {"p": 2}) == {"p": 2}
        assert set(recording._fenced_lanes.in_commits) == {second}


def test_the_owner_fences_the_lanes_of_an_older_one(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as old:
        lane = create(old).open_lane()
        lane.append([sample_batch(SPEC, "p", 1)])
        with Store.attach(tmp_path) as attached:
            attached.recording("sample").lanes()  # a reader ends nothing
        lane.append([sample_batch(SPEC, "p", 2)])
        with Store.open(tmp_path, force=True) as store:
            recording = create(store)
            recording.lanes()
            scan = recording._fenced_lanes.scan(lane.name)
            assert scan.fence is not None
            assert (scan.fence.reason, scan.cursors) == ("recovered", {"p": 2})
            assert recording._fenced_lanes.new_name().startswith("00000002.")
        with pytest.raises(Fenced):
            lane.append([sample_batch(SPEC, "p", 3)])


def test_shards_that_something_else_removed_are_missed(tmp_path: Path) -> None:
    with Store.open(tmp_path, fencing="create") as store:
        recording = create(store)
        name = append(recording, 1)
        recording.move_to_shards()
        recording.files.remove_tree(recording.directory / "lanes" / name)
    message = f"lane '{name}' .* is not there"
    with Store.attach(tmp_path) as store, pytest.raises(CorruptData, match=message):
        store.recording("sample").lanes()
