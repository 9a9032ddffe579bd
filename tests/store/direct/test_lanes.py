"""The owner offers direct lanes, claims producers back and ends lanes."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    Conflict,
    Fenced,
    InvalidInput,
    NotFound,
    NotPermitted,
    StorageFull,
)
from isogloss.store import Recording, Store
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.recordings.open_direct_lane import open_direct_lane
from isogloss.store.testing import FaultyFiles, check_sample, sample_batch, sample_spec

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


def test_a_newer_ticket_withdraws_one_that_was_not_begun(root: Path, recording: Recording) -> None:
    first = recording.offer_direct_lane(["p", "q"])
    second = recording.offer_direct_lane(["q"])
    assert first.lane < second.lane
    with pytest.raises((Fenced, NotPermitted)):
        open_direct_lane(root, first)
    with open_direct_lane(root, second) as lane:
        lane.append([sample_batch(SPEC, "q", 1)])
    assert recording.cursor("q") == 1


def test_a_writer_that_begins_while_its_ticket_is_withdrawn_never_counts(
    root: Path, recording: Recording
) -> None:
    slow = recording.offer_direct_lane(["p"])
    path = recording.directory / "direct" / f"{slow.lane}.json"
    content = path.read_bytes()
    recording.claim(["p"])
    assert not path.exists()
    # as if the writer had read its ticket before, and looked for the fence only after its commit
    path.write_bytes(content)
    (path.parent / f"{slow.lane}.fence").rename(path.parent / "kept")
    lane = open_direct_lane(root, slow)
    (path.parent / "kept").rename(path.parent / f"{slow.lane}.fence")
    path.unlink()
    with pytest.raises(Fenced):
        lane.append([sample_batch(SPEC, "p", 1)])
    assert recording.cursor("p") == 0
    assert recording.revision().rows == 0


def test_producers_belong_to_one_lane_at_a_time(root: Path, recording: Recording) -> None:
    own = recording.open_lane()
    own.append([sample_batch(SPEC, "p", 1), sample_batch(SPEC, "q", 1)])
    with open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane:
        with pytest.raises(Conflict, match="have a direct lane"):
            own.append([sample_batch(SPEC, "p", 2)])
        lane.append([sample_batch(SPEC, "p", 2)])
        assert lane.append([sample_batch(SPEC, "p", 2)]).cursors == {"p": 2}
        with pytest.raises(Conflict, match="not for"):
            lane.append([sample_batch(SPEC, "q", 2)])
        with pytest.raises(Conflict, match="are writing direct lane"):
            recording.claim(["p"])
        own.append([sample_batch(SPEC, "q", 2)])
    with pytest.raises(Conflict, match="open a new one"):
        own.append([sample_batch(SPEC, "p", 2)])
    own.close()
    with recording.open_lane() as after:
        assert after.append([sample_batch(SPEC, "p", 2)]).rows == 0
        after.append([sample_batch(SPEC, "p", 3)])
    assert check_sample(recording.reader(), {"p": 3, "q": 2}) == {"p": 3, "q": 2}


def test_the_owners_new_lane_refuses_producers_of_live_direct_lanes(
    root: Path, recording: Recording
) -> None:
    with (
        open_direct_lane(root, recording.offer_direct_lane(["p"])) as lane,
        recording.open_lane() as own,
    ):
        lane.append([sample_batch(SPEC, "p", 1)])
        with pytest.raises(Conflict):
            own.append([sample_batch(SPEC, "p", 1)])


def test_only_the_owner_offers_and_ends_lanes(recording: Recording) -> None:
    with pytest.raises(NotFound, match="no direct lane"):
        recording.end_direct_lane("00000001.0123456789abcdef")
    with pytest.raises(InvalidInput, match="0 producers"):
        recording.offer_direct_lane([])


def test_a_store_that_is_no_plain_directory_offers_none(tmp_path: Path) -> None:
    class Elsewhere(FileSystem):
        can_map = False

    with Store.open(tmp_path / "s", files=Elsewhere()) as store:
        found = store.create_recording(SPEC, [])
        with pytest.raises(InvalidInput, match="need a store in a directory"):
            found.offer_direct_lane(["p"])


def test_a_ticket_that_cannot_be_written_is_not_given(tmp_path: Path) -> None:
    files = FaultyFiles(error=errno.ENOSPC, operations=frozenset({"write"}), lasting=True)
    with Store.open(tmp_path / "s", files=files) as store:
        found = store.create_recording(SPEC, [])
        files.fail_at = files.count + 1
        with pytest.raises(StorageFull, match="no direct lane can be offered"):
            found.offer_direct_lane(["p"])
        files.fail_at = 0
        assert found.offer_direct_lane(["p"]).cursors == {"p": 0}


def test_an_owner_claims_producers_back_whose_writer_never_came(recording: Recording) -> None:
    recording.offer_direct_lane(["p"])
    with recording.open_lane() as own, pytest.raises(Conflict, match="claim them back"):
        own.append([sample_batch(SPEC, "p", 1)])
    recording.claim(["p"])
    with recording.open_lane() as own:
        own.append([sample_batch(SPEC, "p", 1)])
    assert check_sample(recording.reader(), {"p": 1}) == {"p": 1}


def test_a_claim_names_the_producers_that_are_in_the_way_and_leaves_other_tickets(
    root: Path, recording: Recording
) -> None:
    recording.offer_direct_lane(["other"])
    (ticket,) = (recording.directory / "direct").glob("*.json")
    with open_direct_lane(root, recording.offer_direct_lane(["p", "q"])) as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
        with pytest.raises(Conflict, match=r"producers \['p'\] of recording"):
            recording.claim(["p", "free"])
        recording.claim(["free"])
        assert ticket.exists(), "nobody claimed what it is for"
        lane.append([sample_batch(SPEC, "q", 1)])


def test_a_lane_that_is_ended_says_what_was_committed(root: Path, recording: Recording) -> None:
    lane = open_direct_lane(root, recording.offer_direct_lane(["p"]))
    lane.append([sample_batch(SPEC, "p", 1)])
    ended = recording.end_direct_lane(lane.name)
    assert (ended.name, ended.rows, ended.cursors) == (lane.name, lane.rows, {"p": 1})
    assert ended.seal is not None
