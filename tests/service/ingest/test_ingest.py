"""Sessions and the writer thread, against a real store, without a client in between."""

import contextlib
import errno
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import (
    Conflict,
    DocumentMismatch,
    Fenced,
    InvalidInput,
    IsoglossError,
    LaneEnded,
    NotFound,
    ResourceExhausted,
    SequenceGap,
    ShapeError,
    StorageFull,
)
from isogloss.proto.v1.recordings_pb2 import AppendRequest
from isogloss.service.ingest.ingest import Ingest, IngestLimits, Session
from isogloss.service.wire.framing import Framed
from isogloss.store import Document, RecordingSpec, RowBatch, SiteSpec, Store
from isogloss.store.testing import FaultyFiles, check_sample, sample_batch, sample_spec

SPEC = sample_spec()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        store.create_recording(SPEC, ["a"] * 1000)
        yield store


@pytest.fixture
def ingest(store: Store) -> Iterator[Ingest]:
    ingest = Ingest(store, IngestLimits(idle_lane_s=0.05))
    yield ingest
    ingest.close()


class Producer:
    """A session and what it was told."""

    def __init__(self, ingest: Ingest, name: str, recording: str = "sample") -> None:
        self.told = threading.Event()
        self.session = ingest.open(recording, name, self.told.set)

    def wait(self, sequence: int) -> None:
        """Wait until a batch is durable, or the session ended."""
        while self.session.durable < sequence and self.session.error is None:
            assert self.told.wait(120)
            self.told.clear()


def encoded(batch: RowBatch) -> bytes:
    return b"".join(batch.encode())


def parts(content: bytes, sequence: int, count: int = 1) -> list[Framed[AppendRequest]]:
    step = -(-len(content) // count)
    pieces = [content[start : start + step] for start in range(0, len(content), step)]
    return [
        Framed(
            head=AppendRequest(
                sequence=sequence,
                part=number,
                parts=len(pieces),
                batch_bytes=len(content),
                xxh3=xxhash.xxh3_64_intdigest(piece),
            ),
            payload=(memoryview(piece),),
        )
        for number, piece in enumerate(pieces)
    ]


def changed(part: Framed[AppendRequest], /, **fields: int) -> Framed[AppendRequest]:
    head = AppendRequest()
    head.CopyFrom(part.head)
    for name, value in fields.items():
        setattr(head, name, value)
    return Framed(head=head, payload=part.payload)


def send(session: Session, sequence: int, count: int = 1, spec: RecordingSpec = SPEC) -> None:
    batch = sample_batch(spec, session.producer, sequence)
    for part in parts(encoded(batch), sequence, count):
        assert session.offer(part)


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


def test_a_gap_is_refused_and_names_what_is_missing(ingest: Ingest) -> None:
    producer = Producer(ingest, "p")
    send(producer.session, 1)
    with pytest.raises(SequenceGap, match="wanted 2"):
        send(producer.session, 3)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"part": 1}, "begins with part 1"),
        ({"parts": 0}, "parts"),
        ({"parts": 10**6}, "parts"),
        ({"batch_bytes": 10}, "at most 10"),
        ({"batch_bytes": 10**6}, "wanted 1000000"),
        ({"xxh3": 5}, "checksum"),
        ({"sequence": 2}, "wanted 1"),
    ],
)
def test_a_part_that_lies_is_refused(ingest: Ingest, fields: dict[str, int], says: str) -> None:
    producer = Producer(ingest, "p")
    [part] = parts(encoded(sample_batch(SPEC, "p", 1)), 1)
    with pytest.raises(InvalidInput, match=says):
        producer.session.offer(changed(part, **fields))
    producer.session.close()
    assert ingest.held_bytes == 0


def test_parts_of_two_batches_do_not_mix(ingest: Ingest) -> None:
    producer = Producer(ingest, "p")
    first, second = parts(encoded(sample_batch(SPEC, "p", 1)), 1, 2)
    assert producer.session.offer(first)
    assert producer.session.has_partial_batch
    with pytest.raises(InvalidInput, match="does not continue"):
        producer.session.offer(changed(second, sequence=2))
    producer.session.close()
    assert ingest.held_bytes == 0


def test_a_batch_that_does_not_fit_the_recording_is_refused(ingest: Ingest) -> None:
    other = sample_spec(sites=(SPEC.sites[0], SiteSpec(name="layer.9", width=6)))
    producer = Producer(ingest, "p")
    with pytest.raises(ShapeError, match=r"layer\.9"):
        send(producer.session, 1, spec=other)
    fresh = Producer(ingest, "q")
    content = encoded(sample_batch(SPEC, "someone-else", 1))
    with pytest.raises(InvalidInput, match="someone-else"):
        fresh.session.offer(parts(content, 1)[0])


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


def test_a_whole_batch_that_is_repeated_is_acknowledged_and_not_stored_again(
    store: Store, ingest: Ingest
) -> None:
    producer = Producer(ingest, "p")
    for sequence in (1, 2, 1, 2, 3, 2):
        assert producer.session.offer_batch(sample_batch(SPEC, "p", sequence), 100)
    producer.wait(3)
    assert check_sample(store.recording("sample").reader(), {"p": 3}) == {"p": 3}


def test_a_whole_batch_out_of_turn_of_another_producer_or_too_large_is_refused(
    ingest: Ingest,
) -> None:
    session = Producer(ingest, "p").session
    with pytest.raises(SequenceGap, match="wanted 1"):
        session.offer_batch(sample_batch(SPEC, "p", 2), 100)
    with pytest.raises(InvalidInput, match="is of 'q'"):
        session.offer_batch(sample_batch(SPEC, "q", 1), 100)
    with pytest.raises(ResourceExhausted, match="fewer rows"):
        session.offer_batch(sample_batch(SPEC, "p", 1), ingest.limits.batch_bytes + 1)
    described = replace(
        sample_batch(SPEC, "p", 1),
        documents=tuple(Document.from_token_ids([n]) for n in range(2**16 + 1)),
    )
    with pytest.raises(ResourceExhausted, match="split it"):
        session.offer_batch(described, 100)
    assert session.offer(parts(encoded(sample_batch(SPEC, "p", 1)), 1, 2)[0])
    with pytest.raises(InvalidInput, match="amid the parts"):
        session.offer_batch(sample_batch(SPEC, "p", 1), 100)
    session.close()
    assert ingest.held_bytes == 0


def test_memory_is_set_aside_for_a_whole_batch_and_given_back(store: Store) -> None:
    ingest = Ingest(store, IngestLimits(part_bytes=64, batch_bytes=2000, held_bytes=2000))
    first, second = Producer(ingest, "a"), Producer(ingest, "b")
    content = encoded(sample_batch(SPEC, "a", 1))
    begun = parts(content, 1, 20)
    assert first.session.offer(begun[0])
    whole = sample_batch(SPEC, "b", 1)
    assert not second.session.offer_batch(whole, 2001 - len(content))
    assert second.session.received == 0
    assert ingest.held_bytes == len(content)
    second.told.clear()
    for part in begun[1:]:
        assert first.session.offer(part)
    assert second.told.wait(120)
    first.wait(1)
    assert second.session.offer_batch(whole, 2000)
    second.wait(1)
    assert ingest.held_bytes == 0
    ingest.close()
    assert check_sample(store.recording("sample").reader(), {"a": 1, "b": 1})


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


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    with Store.open(tmp_path_factory.mktemp("damaged") / "store") as store:
        store.create_recording(SPEC, ["a"])
        ingest = Ingest(store)
        yield ingest
        ingest.close()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_batches_are_refused_with_a_reason_and_hold_no_memory(
    lasting: Ingest, data: st.DataObject
) -> None:
    name = f"p{data.draw(st.integers(0, 2**30))}"
    content = bytearray(encoded(sample_batch(SPEC, name, 1)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(400, len(content) - 1)))
        content[at] = data.draw(st.integers(0, 255))
    producer = Producer(lasting, name)
    with contextlib.suppress(IsoglossError):  # any other error is a defect
        producer.session.offer(parts(bytes(content), 1)[0])
        producer.wait(1)
    producer.session.close()
    assert lasting.held_bytes == 0


def test_memory_is_set_aside_before_a_batch_is_taken(store: Store) -> None:
    contents = [encoded(sample_batch(SPEC, name, 1)) for name in ("a", "b")]
    size = max(map(len, contents))
    ingest = Ingest(store, IngestLimits(part_bytes=64, batch_bytes=size, held_bytes=size))
    first, second = Producer(ingest, "a"), Producer(ingest, "b")
    begun = parts(contents[0], 1, 20)
    assert first.session.offer(begun[0])
    waiting = parts(contents[1], 1, 20)
    assert not second.session.offer(waiting[0])
    assert ingest.held_bytes == len(contents[0])
    second.told.clear()
    for part in begun[1:]:
        assert first.session.offer(part)
    first.wait(1)
    assert second.told.wait(120)
    for part in waiting:
        assert second.session.offer(part)
    second.wait(1)
    ingest.close()
    assert check_sample(store.recording("sample").reader(), {"a": 1, "b": 1})


def test_a_batch_beyond_the_limit_is_refused_before_anything_is_allocated(ingest: Ingest) -> None:
    producer = Producer(ingest, "p")
    [part] = parts(encoded(sample_batch(SPEC, "p", 1)), 1)
    with pytest.raises(ResourceExhausted, match="fewer rows"):
        producer.session.offer(changed(part, batch_bytes=1 << 60, parts=1 << 20))
    assert ingest.held_bytes == 0


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
    ingest.forget(recording.uid)
    store.delete_recording("sample", recording.etag)
    with pytest.raises(Conflict, match="deleted"):
        send(producer.session, 2)
    with pytest.raises(NotFound):
        Producer(ingest, "p")


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


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidInput, match="grow"):
        IngestLimits(batch_bytes=1 << 30)
