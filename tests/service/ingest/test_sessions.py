"""One producer's stream: what is taken, in parts or whole, and what is refused untouched."""

import contextlib
import random
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.service.ingest.producing import SPEC, Producer, changed, encoded, parts, send

from isogloss.errors import (
    InvalidInput,
    IsoglossError,
    ResourceExhausted,
    SequenceGap,
    ShapeError,
)
from isogloss.proto.v1.recordings_pb2 import AppendRequest
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.ingest.sessions import Assembly
from isogloss.store import Document, SiteSpec, Store
from isogloss.store.testing import check_sample, sample_batch, sample_spec


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ingest]:
    with Store.open(tmp_path_factory.mktemp("damaged") / "store") as store:
        store.create_recording(SPEC, ["a"])
        ingest = Ingest(store)
        yield ingest
        ingest.close()


@pytest.fixture(scope="module")
def store_of_many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("many") / "store") as store:
        store.create_recording(SPEC, ["a"] * 1000)
        yield store


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


def test_memory_is_set_aside_as_parts_come_and_given_back(store: Store) -> None:
    ingest = Ingest(store, IngestLimits(part_bytes=64, batch_bytes=2000, held_bytes=2000))
    first, second = Producer(ingest, "a"), Producer(ingest, "b")
    content = encoded(sample_batch(SPEC, "a", 1))
    begun = parts(content, 1, 20)
    assert first.session.offer(begun[0])
    whole = sample_batch(SPEC, "b", 1)
    came = len(begun[0].payload[0])
    assert not second.session.offer_batch(whole, 2001 - came)
    assert second.session.received == 0
    assert ingest.held_bytes == came
    for part in begun[1:]:
        assert first.session.offer(part)
    first.wait(1)
    assert second.session.offer_batch(whole, 2000)
    second.wait(1)
    assert ingest.held_bytes == 0
    ingest.close()
    assert check_sample(store.recording("sample").reader(), {"a": 1, "b": 1})


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


def test_of_batches_that_together_find_no_room_the_first_that_began_goes_on(store: Store) -> None:
    contents = [encoded(sample_batch(SPEC, name, 1)) for name in ("a", "b")]
    size = max(map(len, contents))
    ingest = Ingest(store, IngestLimits(part_bytes=64, batch_bytes=size, held_bytes=size))
    first, second = Producer(ingest, "a"), Producer(ingest, "b")
    begun = parts(contents[0], 1, 20)
    assert first.session.offer(begun[0])
    waiting = parts(contents[1], 1, 20)
    assert not second.session.offer(waiting[0])
    assert ingest.held_bytes == len(begun[0].payload[0])
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


def test_batches_that_were_announced_and_do_not_come_hold_only_what_came(store: Store) -> None:
    ingest = Ingest(store, IngestLimits(part_bytes=1024, batch_bytes=5000, held_bytes=40_000))
    slow = [Producer(ingest, f"slow-{number}") for number in range(30)]
    for producer in slow:
        begun = parts(encoded(sample_batch(SPEC, producer.session.producer, 1)), 1, 20)
        announced = changed(begun[0], batch_bytes=5000)
        assert producer.session.offer(announced)
    quick = Producer(ingest, "quick")
    for sequence in range(1, 6):
        send(quick.session, sequence)
    quick.wait(5)
    for producer in slow:
        producer.session.close()
    assert ingest.held_bytes == 0
    ingest.close()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.floats(1, 4))
def test_however_parts_of_many_batches_come_all_batches_end(
    store_of_many: Store, seed: int, room: float
) -> None:
    chance = random.Random(seed)  # the order of draws depends on when the disk is through
    names = [f"p{uuid.uuid4().hex}-{number}" for number in range(5)]
    contents = {name: encoded(sample_batch(SPEC, name, 1)) for name in names}
    largest = max(map(len, contents.values()))
    held = int(largest * room)
    ingest = Ingest(
        store_of_many, IngestLimits(part_bytes=512, batch_bytes=largest, held_bytes=held)
    )
    producers = {name: Producer(ingest, name) for name in names}
    left = {name: parts(contents[name], 1, 12) for name in names}
    tries = 0
    while left:
        order = chance.sample(sorted(left), len(left))
        # one that finds no room waits; whoever comes next may be the one that does
        took = next((n for n in order if producers[n].session.offer(left[n][0])), None)
        assert ingest.held_bytes <= held
        if took is None:  # until what came whole is on the disk, and its memory free
            for producer in producers.values():
                producer.wait(producer.session.received)
            tries += 1
            assert tries < 1000, "no batch finds room, and none is on its way to the disk"
            time.sleep(0.001)
            continue
        tries = 0
        left[took].pop(0)
        if not left[took]:
            del left[took]
    for producer in producers.values():
        producer.wait(1)
        producer.session.close()
    assert ingest.held_bytes == 0
    ingest.close()


def test_a_batch_beyond_the_limit_is_refused_before_anything_is_allocated(ingest: Ingest) -> None:
    producer = Producer(ingest, "p")
    [part] = parts(encoded(sample_batch(SPEC, "p", 1)), 1)
    with pytest.raises(ResourceExhausted, match="fewer rows"):
        producer.session.offer(changed(part, batch_bytes=1 << 60, parts=1 << 20))
    assert ingest.held_bytes == 0


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidInput, match="grow"):
        IngestLimits(batch_bytes=1 << 30)


@pytest.mark.parametrize(("beside", "is_kept"), [(100, True), (1 << 20, False)])
def test_what_a_message_holds_beside_its_payload_is_not_kept(beside: int, is_kept: bool) -> None:
    payload = 64 << 10
    message = bytes(payload + beside)
    assembly = Assembly(AppendRequest(sequence=1, parts=2, batch_bytes=2 * payload))
    assembly.add(memoryview(message)[:payload])
    assert (sys.getrefcount(message) > 2) is is_kept
    assert assembly.filled == payload


def test_many_tiny_parts_are_held_as_one_piece() -> None:
    content = encoded(sample_batch(SPEC, "p", 1))
    assembly = Assembly(AppendRequest(sequence=1, parts=len(content), batch_bytes=len(content)))
    before = sys.getallocatedblocks()
    for byte in range(len(content)):
        assembly.add(memoryview(content)[byte : byte + 1])
    assert sys.getallocatedblocks() - before < len(content) // 8
    assert assembly.content() == content
