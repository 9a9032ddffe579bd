"""Sessions and the writer thread, against a real store, without a client in between."""

import contextlib
import errno
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.service.ingest.producing import SPEC, Producer, encoded, parts, send

from isogloss.errors import (
    Conflict,
    DocumentMismatch,
    Fenced,
    InternalError,
    InvalidInput,
    LaneEnded,
    NotFound,
    ResourceExhausted,
    ServerUnavailable,
    ShapeError,
    StorageFull,
)
from isogloss.service.ingest.ingest import Ingest, Session
from isogloss.service.ingest.limits import IngestLimits
from isogloss.store import Commit, Document, LaneWriter, RowBatch, SiteSpec, Store
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.testing import FaultyFiles, check_sample, sample_batch, sample_spec


def test_batches_in_any_number_of_parts_are_stored_whole_and_in_order(
    store: Store, ingest: Ingest
) -> None:
    producer = Producer(ingest, "p")
    for sequence in range(1, 9):
        send(producer.session, sequence, count=sequence)
        assert producer.session.received == sequence
    producer.wait(8)
    assert check_sample(store.recording("sample").reader(), {"p": 8}) == {"p": 8}
    assert producer.session.is_settled
    assert ingest.held_bytes == 0


def test_many_producers_share_group_commits(store: Store, ingest: Ingest) -> None:
    producers = [Producer(ingest, f"p{i}") for i in range(8)]
    for sequence in range(1, 11):
        for producer in producers:
            send(producer.session, sequence)
    for producer in producers:
        producer.wait(10)
    wanted = {f"p{i}": 10 for i in range(8)}
    assert check_sample(store.recording("sample").reader(), wanted) == wanted
    assert len(store.recording("sample").revision().lanes) == 1


def test_a_repeated_batch_is_acknowledged_and_not_stored_again(
    store: Store, ingest: Ingest
) -> None:
    producer = Producer(ingest, "p")
    for sequence in (1, 2, 1, 2, 3, 2):
        send(producer.session, sequence)
    producer.wait(3)
    assert check_sample(store.recording("sample").reader(), {"p": 3}) == {"p": 3}


# Batches that come whole, from a sender in the same process.


def test_whole_batches_are_stored_in_order_beside_those_in_parts(
    store: Store, ingest: Ingest
) -> None:
    producer = Producer(ingest, "p")
    for sequence in range(1, 7):
        if sequence % 2:
            assert producer.session.offer_batch(sample_batch(SPEC, "p", sequence), 100)
        else:
            send(producer.session, sequence, count=3)
        assert producer.session.received == sequence
    producer.wait(6)
    assert check_sample(store.recording("sample").reader(), {"p": 6}) == {"p": 6}
    assert producer.session.is_settled
    assert ingest.held_bytes == 0


def test_a_whole_batch_that_the_lane_refuses_ends_only_its_session(
    store: Store, ingest: Ingest
) -> None:
    other = sample_spec(sites=(SPEC.sites[0], SiteSpec(name="layer.9", width=6)))
    bad, good = Producer(ingest, "bad"), Producer(ingest, "good")
    assert bad.session.offer_batch(sample_batch(other, "bad", 1), 100)
    assert good.session.offer_batch(sample_batch(SPEC, "good", 1), 100)
    good.wait(1)
    bad.wait(1)
    assert isinstance(bad.session.error, ShapeError)
    with pytest.raises(ShapeError, match=r"layer\.9"):
        bad.session.offer_batch(sample_batch(SPEC, "bad", 2), 100)
    assert check_sample(store.recording("sample").reader(), {"good": 1}) == {"good": 1}
    assert ingest.held_bytes == 0


class HeldFiles(FileSystem):
    """Files whose syncs of rows wait until they are let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def sync_together(self, descriptors: Sequence[int]) -> None:
        self.begun.set()
        assert self.go.wait(120)
        super().sync_together(descriptors)


def test_memory_of_batches_that_are_dropped_is_told_of_at_once(tmp_path: Path) -> None:
    files = HeldFiles()
    size = max(len(encoded(sample_batch(SPEC, name, 1))) for name in ("slow", "p", "r"))
    limits = IngestLimits(part_bytes=size, batch_bytes=size, held_bytes=32 * size // 7)
    with Store.open(tmp_path, files=files) as store:
        store.create_recording(SPEC, ["a"])
        store.create_recording(sample_spec("other"), ["a"])
        ingest = Ingest(store, limits)
        try:
            slow, dropped, waits = (
                Producer(ingest, "slow", "other"),
                Producer(ingest, "p"),
                Producer(ingest, "r"),
            )
            send(slow.session, 1)
            assert files.begun.wait(60)
            send(dropped.session, 1)
            (part,) = parts(encoded(sample_batch(SPEC, "r", 1)), 1)
            assert not waits.session.offer(part)
            waits.told.clear()
            Producer(ingest, "p")  # the batch of the older session is dropped, and none committed
            assert waits.told.wait(60)
            assert waits.session.offer(part)
        finally:
            files.go.set()
            ingest.close()


def test_closing_in_time_drops_what_nobody_was_promised_and_keeps_the_rest(tmp_path: Path) -> None:
    files = HeldFiles()
    with Store.open(tmp_path, files=files) as store:
        store.create_recording(SPEC, ["a"])
        ingest = Ingest(store)
        one, other = Producer(ingest, "one"), Producer(ingest, "other")
        send(one.session, 1)
        assert files.begun.wait(60)
        send(one.session, 2)
        send(other.session, 1)
        closing = threading.Thread(target=ingest.close, args=(0.0,))
        closing.start()
        one.wait(10**6)  # until it is told of an error
        files.go.set()
        closing.join(60)
        assert not closing.is_alive()
        assert isinstance(other.session.error, ServerUnavailable)
        assert (one.session.durable, other.session.durable) == (1, 0)
        assert ingest.held_bytes == 0
    with Store.open(tmp_path) as store:
        found = store.recording("sample")
        assert (found.cursor("one"), found.cursor("other")) == (1, 0)
        again = Ingest(store)
        send(Producer(again, "other").session, 1)
        again.close()
        assert found.cursor("other") == 1


def test_the_more_producers_the_smaller_the_parts_that_they_are_asked_for(store: Store) -> None:
    ingest = Ingest(store, IngestLimits(held_bytes=128 << 20))
    asked: list[int] = []
    for number in range(320):
        session = Producer(ingest, f"p-{number}").session
        asked.append(session.acknowledgement().part_bytes)
    assert asked[0] == asked[15] == 1 << 20
    assert asked[31] == (64 << 20) // (4 * 32)
    assert asked[159] == (64 << 20) // (4 * 160)
    assert asked[-1] == 64 << 10, "and no smaller"
    assert asked == sorted(asked, reverse=True)
    ingest.close()


def test_parts_become_half_as_large_as_the_memory_for_them_fills(store: Store) -> None:
    whole = 64 << 20
    ingest = Ingest(store, IngestLimits(held_bytes=2 * whole))
    sessions = [Producer(ingest, f"p-{number}").session for number in range(32)]
    asked: dict[int, int] = {}
    for eighths in range(8):
        assert ingest.reserve(sessions[0], eighths * whole // 8)
        asked[eighths] = sessions[1].acknowledgement().part_bytes
        ingest.release(eighths * whole // 8)
    large, small = whole // (4 * 32), whole // (8 * 32)
    assert [asked[eighths] for eighths in (0, 2)] == [large, large]
    assert asked[3] == (large + small) // 2
    assert [asked[eighths] for eighths in (4, 7)] == [small, small]
    ingest.close()


def test_the_room_left_for_parts_is_that_of_the_small_ones(store: Store) -> None:
    whole = 64 << 20
    ingest = Ingest(store, IngestLimits(held_bytes=2 * whole, batch_bytes=1 << 20))
    first, second = (Producer(ingest, f"p-{number}").session for number in range(2))
    for number in range(510):
        Producer(ingest, f"idle-{number}")
    room = whole - (whole // 8)  # 512 parts of 64 KiB are more than an eighth
    assert ingest.reserve(first, room)
    assert not ingest.reserve(second, 1)
    ingest.release(room)
    ingest.close()


def test_only_those_that_a_commit_concerns_are_told(store: Store) -> None:
    ingest = Ingest(store)
    idle = [Producer(ingest, f"idle-{number}") for number in range(5)]
    one = Producer(ingest, "one")
    send(one.session, 1)
    one.wait(1)
    assert not any(producer.told.is_set() for producer in idle)
    ingest.close()


def test_ingest_that_begins_on_a_full_disk_is_not_well_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = FaultyFiles(error=errno.ENOSPC, operations=frozenset({"write"}), lasting=True)
    with Store.open(tmp_path, files=files) as store:
        ingest = Ingest(store)
        try:
            files.fail_at = files.count + 1
            assert [ingest.is_well() for _ in range(3)] == [False] * 3
            files.fail_at = 0
            assert [ingest.is_well() for _ in range(3)] == [True] * 3
        finally:
            ingest.close()
    told = [record.getMessage() for record in caplog.records if record.name.endswith("ingest")]
    assert [text.split(":")[0] for text in told] == [
        "nothing can be recorded",
        "batches can be recorded again",
    ]


def test_ingest_is_well_again_once_the_storage_takes_bytes(tmp_path: Path) -> None:
    files = FaultyFiles(error=errno.ENOSPC, operations=frozenset({"write"}), lasting=True)
    with Store.open(tmp_path, files=files) as store:
        store.create_recording(SPEC, ["a"])
        ingest = Ingest(store)
        try:
            producer = Producer(ingest, "p")
            send(producer.session, 1)
            producer.wait(1)
            assert ingest.is_well()
            files.fail_at = files.count + 1
            send(producer.session, 2)
            producer.wait(2)
            assert isinstance(producer.session.error, StorageFull)
            assert not ingest.is_well()
            assert not ingest.is_well()
            files.fail_at = 0
            assert ingest.is_well()
        finally:
            ingest.close()


def full(
    store: Store, idle_session_s: float, clients: Sequence[str]
) -> tuple[Ingest, list[Session]]:
    """Return an ingest that as many producers fill as may be connected."""
    ingest = Ingest(store, IngestLimits(sessions=len(clients), idle_session_s=idle_session_s))
    return ingest, [
        ingest.open("sample", f"p{i}", lambda: None, client) for i, client in enumerate(clients)
    ]


def test_idle_producers_make_room_for_a_new_one_and_go_on_later(store: Store) -> None:
    ingest, sessions = full(store, 0.0, ["one"] * 4)
    try:
        ingest.open("sample", "new", lambda: None, "one")
        assert [isinstance(s.error, ServerUnavailable) for s in sessions] == [True] + [False] * 3
        assert ingest.sessions == 4
        again = ingest.open("sample", "p0", lambda: None, "one")  # in place of the next idle one
        send(again, 1)
        assert isinstance(sessions[1].error, ServerUnavailable)
    finally:
        ingest.close()


def test_a_client_that_fills_the_limit_leaves_every_other_one_its_share(store: Store) -> None:
    ingest, sessions = full(store, 3600.0, ["greedy"] * 8)
    try:
        for session in sessions:
            send(session, 1)  # none of them is idle
        with pytest.raises(ResourceExhausted, match="8 of them from greedy"):
            ingest.open("sample", "more", lambda: None, "greedy")
        for number in range(4):
            ingest.open("sample", f"other{number}", lambda: None, "other")
        with pytest.raises(ResourceExhausted, match="4 of them from other"):
            ingest.open("sample", "too many", lambda: None, "other")
        assert sum(isinstance(s.error, ServerUnavailable) for s in sessions) == 4
        assert ingest.sessions == 8
    finally:
        ingest.close()


def test_a_newer_session_fences_the_older_one(store: Store, ingest: Ingest) -> None:
    old = Producer(ingest, "p")
    send(old.session, 1)
    old.wait(1)
    new = Producer(ingest, "p")
    assert new.session.durable == 1
    with pytest.raises(Fenced, match="newer writer"):
        send(old.session, 2)
    send(new.session, 2)
    new.wait(2)
    old.session.close()
    send(new.session, 3)
    new.wait(3)
    assert check_sample(store.recording("sample").reader(), {"p": 3}) == {"p": 3}


def test_one_producers_bad_batch_does_not_stop_the_others(store: Store, ingest: Ingest) -> None:
    good, bad = Producer(ingest, "good"), Producer(ingest, "bad")
    send(good.session, 1)
    good.wait(1)
    known = sample_batch(SPEC, "good", 1)
    batch = replace(
        sample_batch(SPEC, "bad", 1),
        documents=(Document.from_text(known.documents[0].text or "", group="another"),),
        document=np.full(sample_batch(SPEC, "bad", 1).rows, known.documents[0].id, dtype=np.uint64),
    )
    for part in parts(encoded(batch), 1):
        bad.session.offer(part)
    send(good.session, 2)
    good.wait(2)
    bad.wait(1)
    assert isinstance(bad.session.error, DocumentMismatch)
    with pytest.raises(DocumentMismatch):
        send(bad.session, 2)
    assert check_sample(store.recording("sample").reader(), {"good": 2}) == {"good": 2}
    assert ingest.held_bytes == 0


def test_an_error_that_is_none_of_ours_stops_its_producer_alone(
    store: Store, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, odd, bad = (Producer(ingest, name) for name in ("good", "odd", "bad"))
    real = LaneWriter.append

    def append(lane: LaneWriter, batches: Sequence[RowBatch]) -> Commit:
        names = {batch.producer for batch in batches}
        if len(names) > 1:
            raise InvalidInput("one of them is bad: they are tried one by one")
        if names == {"bad"}:
            raise TypeError("planted")
        return real(lane, batches)

    monkeypatch.setattr(LaneWriter, "append", append)
    with ingest._changed:  # the writer waits until all three batches are there
        for producer in (good, odd, bad):
            send(producer.session, 1)
    for producer in (good, odd, bad):
        producer.wait(1)
    assert isinstance(bad.session.error, InternalError)
    send(good.session, 2)
    good.wait(2)
    assert check_sample(store.recording("sample").reader(), {"good": 2, "odd": 1}) == {
        "good": 2,
        "odd": 1,
    }


def test_a_full_disk_ends_the_session_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    files = FaultyFiles(error=errno.ENOSPC, operations=frozenset({"write"}), lasting=True)
    store = Store.open(tmp_path / "store", files=files)
    store.create_recording(SPEC, ["a"])
    ingest = Ingest(store)
    producer = Producer(ingest, "p")
    send(producer.session, 1)
    producer.wait(1)
    files.fail_at = files.count + 1
    send(producer.session, 2)
    producer.wait(2)
    assert isinstance(producer.session.error, StorageFull | LaneEnded)
    files.fail_at = 0
    again = Producer(ingest, "p")
    assert again.session.durable == 1
    send(again.session, 2)
    again.wait(2)
    ingest.close()
    assert check_sample(store.recording("sample").reader(), {"p": 2}) == {"p": 2}
    store.close()


def test_an_idle_lane_is_closed_and_a_later_batch_opens_another(
    store: Store, ingest: Ingest
) -> None:
    for sequence in (1, 2):
        producer = Producer(ingest, "p")
        send(producer.session, sequence)
        producer.wait(sequence)
        producer.session.close()
        deadline = threading.Event()
        while ingest._lanes and not deadline.wait(0.02):
            pass
    assert len(store.recording("sample").revision().lanes) == 2
    assert check_sample(store.recording("sample").reader(), {"p": 2}) == {"p": 2}


def test_deleting_a_recording_ends_its_sessions(store: Store, ingest: Ingest) -> None:
    producer = Producer(ingest, "p")
    send(producer.session, 1)
    producer.wait(1)
    recording = store.recording("sample")
    with ingest.deleting(recording.uid):
        store.delete_recording("sample", recording.etag)
    with pytest.raises(Conflict, match="deleted"):
        send(producer.session, 2)
    with pytest.raises(NotFound):
        Producer(ingest, "p")


def test_while_a_recording_is_deleted_batches_wait_and_go_on_where_that_fails(
    store: Store, ingest: Ingest
) -> None:
    producer = Producer(ingest, "p")
    send(producer.session, 1)
    producer.wait(1)
    with contextlib.suppress(ValueError), ingest.deleting(store.recording("sample").uid):
        send(producer.session, 2)
        with pytest.raises(ServerUnavailable, match="is being deleted: connect again"):
            Producer(ingest, "q")
        with pytest.raises(ServerUnavailable, match="is being deleted"):
            ingest.offer_direct_lane("sample", ["q"])
        other = store.create_recording(replace(SPEC, recording="other"), ["a"] * 1000)
        beside = Producer(ingest, "p", other.id)
        send(beside.session, 1, spec=other.spec)
        beside.wait(1)
        assert producer.session.durable == 1, "a batch was committed to what is being deleted"
        assert not store.recording("sample").is_writing
        raise ValueError("no")
    producer.wait(2)
    assert (producer.session.durable, producer.session.error) == (2, None)
    assert check_sample(store.recording("sample").reader(), {"p": 2}) == {"p": 2}


def test_closing_commits_what_waits_and_refuses_what_follows(store: Store) -> None:
    ingest = Ingest(store)
    producer = Producer(ingest, "p")
    for sequence in range(1, 6):
        send(producer.session, sequence)
    ingest.close()
    assert producer.session.durable == 5
    with pytest.raises(Conflict, match="closed"):
        Producer(ingest, "q")


def test_the_number_of_producers_is_limited(store: Store) -> None:
    ingest = Ingest(store, IngestLimits(sessions=2))
    Producer(ingest, "a")
    second = Producer(ingest, "b")
    with pytest.raises(ResourceExhausted, match="2 producers"):
        Producer(ingest, "c")
    second.session.close()
    Producer(ingest, "c")
    ingest.close()


def test_rows_into_a_shard_that_was_deleted_are_not_acknowledged(
    store: Store, ingest: Ingest
) -> None:
    producer = Producer(ingest, "p")
    send(producer.session, 1)
    producer.wait(1)
    shards = list(store.root.glob("recordings/*/lanes/*/site-0/c/*/*"))
    for shard in shards:
        shard.unlink()
    send(producer.session, 2)
    producer.wait(2)
    with pytest.raises(LaneEnded, match="deleted while it was written"):
        send(producer.session, 3)
    assert shards
    assert producer.session.durable == 1


def test_batches_that_came_in_part_may_hold_all_but_what_the_largest_needs(store: Store) -> None:
    ingest = Ingest(store, IngestLimits(part_bytes=1, batch_bytes=2000, held_bytes=10_000))
    first, second = (Producer(ingest, name).session for name in ("a", "b"))
    assert ingest.reserve_part(first, 1000)
    assert ingest.reserve_part(second, 1998), "and but a part for each session"
    assert not ingest.reserve_part(second, 1)
    assert ingest.reserve_part(first, 2002), "the one that began first goes on"
    assert not ingest.reserve_part(first, 1), "all is held"
    ingest.release(5000)
    ingest.close()
