"""Recordings: one open lane, pinned readers, revisions."""

import dataclasses
from pathlib import Path

import pytest

from isogloss.errors import (
    Conflict,
    InvalidInput,
    LaneEnded,
    NotFound,
    StoreOwned,
)
from isogloss.store import (
    Recording,
    RecordingSpec,
    Revision,
    Store,
)
from isogloss.store.recordings.open_direct_lane import open_direct_lane
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()


SHARD_BYTES = 64 << 10


def new_recording(store: Store, spec: RecordingSpec = SPEC) -> Recording:
    return store.create_recording(spec, ["a", "b"], shard_bytes=SHARD_BYTES)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_a_second_life_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        lane = new_recording(store).open_lane()
        lane.append([sample_batch(SPEC, "p", n) for n in range(1, 8)])
    with Store.open(tmp_path) as store:
        recording = store.recording("sample")
        assert recording.cursor("p") == 7
        assert recording.cursor("q") == 0
        lane = recording.open_lane()
        assert lane.cursors == {"p": 7}
        lane.append([sample_batch(SPEC, "p", n) for n in range(5, 12)])
        assert len(recording.revision().lanes) == 2
        assert check_sample(recording.reader(), {"p": 11}) == {"p": 11}


def test_who_ends_a_direct_lane_is_told_what_counts_of_it(store: Store) -> None:
    recording = new_recording(store)
    ticket = recording.offer_direct_lane(["p"])
    lane = open_direct_lane(store.root, ticket)
    lane.append([sample_batch(SPEC, "p", n) for n in range(1, 4)])
    ended = recording.end_direct_lane(ticket.lane)
    assert (ended.name, ended.cursors) == (ticket.lane, {"p": 3})
    assert ended.seal is not None
    assert ended.rows == ended.seal.rows == recording.revision().rows


def test_one_recording_has_one_open_lane(store: Store) -> None:
    recording = new_recording(store)
    lane = recording.open_lane()
    with pytest.raises(Conflict, match="is open"):
        recording.open_lane()
    lane.close()
    lane.close()
    with pytest.raises(LaneEnded, match="closed"):
        lane.append([sample_batch(SPEC, "p", 1)])
    recording.open_lane().close()


def test_an_attached_store_reads_a_live_lane_and_cannot_write(store: Store) -> None:
    recording = new_recording(store)
    lane = recording.open_lane()
    lane.append([sample_batch(SPEC, "p", 1)])
    with Store.attach(store.root) as attached:
        there = attached.recording("sample")
        assert there.revision() == recording.revision()
        assert check_sample(there.reader(), {"p": 1}) == {"p": 1}
        lane.append([sample_batch(SPEC, "p", 2)])
        assert check_sample(there.reader(), {"p": 2}) == {"p": 2}
        with pytest.raises(StoreOwned, match="only reads"):
            there.open_lane()
        with pytest.raises(StoreOwned, match="attached"):
            attached.create_recording(SPEC, [])


def test_a_pinned_reader_does_not_move(store: Store) -> None:
    recording = new_recording(store)
    lane = recording.open_lane()
    lane.append([sample_batch(SPEC, "p", 1)])
    reader = recording.reader()
    lane.append([sample_batch(SPEC, "p", 2)])
    assert check_sample(reader, {"p": 1}) == {"p": 1}
    lane.close()
    recording.derive()
    assert check_sample(reader, {"p": 1}) == {"p": 1}
    assert check_sample(recording.reader(reader.revision), {"p": 1}) == {"p": 1}


def test_a_revision_that_does_not_fit_is_refused(store: Store) -> None:
    recording = new_recording(store)
    with recording.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
    revision = recording.revision()
    name, rows = revision.lanes[0]
    with pytest.raises(NotFound, match="not of"):
        recording.reader(dataclasses.replace(revision, recording="0" * 24))
    with pytest.raises(NotFound, match="is gone"):
        recording.reader(dataclasses.replace(revision, lanes=(("x", 1),)))
    with pytest.raises(InvalidInput, match="proves"):
        recording.reader(dataclasses.replace(revision, lanes=((name, rows + 1),)))
    assert recording.reader(Revision.from_dict(revision.to_dict())).rows == rows
