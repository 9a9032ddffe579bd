"""A producer's stream through the owner: what is refused before it is sent, and how it ends."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from isogloss.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    SequenceGap,
    ShapeError,
)
from isogloss.service.calls.all import LocalHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.recording.appender import Appender
from isogloss.service.transport.in_process import LocalTransport
from isogloss.store import Store
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec("docs")
LIMITS = IngestLimits(part_bytes=1000, batch_bytes=20_000, held_bytes=50_000, window_bytes=9_000)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    store = Store.open(tmp_path_factory.mktemp("appender") / "store")
    with Owner(store, run_workers=False, limits=LIMITS) as owner:
        store.create_recording(SPEC, [])
        yield owner


@pytest.fixture(scope="module")
def transport(owner: Owner) -> LocalTransport:
    return LocalTransport(LocalHandlers(owner), "here")


def test_what_was_written_is_durable_after_a_flush_and_gone_on_with(
    owner: Owner, transport: LocalTransport
) -> None:
    with Appender(transport, SPEC, "p") as appender:
        assert (appender.next_sequence, appender.durable_sequence) == (1, 0)
        for number in (1, 2, 3):
            appender.write(sample_batch(SPEC, "p", number))
            assert appender.next_sequence == number + 1
        appender.flush()
        assert (appender.durable_sequence, appender.pending_bytes) == (3, 0)
    assert owner.store.recording("docs").cursor("p") == 3
    with pytest.raises(Conflict, match="this appender was closed: open another one"):
        appender.write(sample_batch(SPEC, "p", 4))
    appender.close()
    with Appender(transport, SPEC, "p") as again:
        assert (again.next_sequence, again.durable_sequence) == (4, 3)


def test_a_batch_out_of_turn_is_refused_before_it_is_sent(transport: LocalTransport) -> None:
    with Appender(transport, SPEC, "turn") as appender:
        for number in (2, 9):
            with pytest.raises(SequenceGap, match=f"has sequence {number}, wanted 1: number"):
                appender.write(replace(sample_batch(SPEC, "turn", 1), sequence=number))
        with pytest.raises(InvalidInput, match="of producer 'other', this stream of 'turn'"):
            appender.write(sample_batch(SPEC, "other", 1))
        with pytest.raises(ShapeError):
            appender.write(sample_batch(sample_spec(has_spans=False), "turn", 1))
        with pytest.raises(ResourceExhausted, match=r"the server takes 20000: put fewer rows"):
            appender.write(sample_batch(SPEC, "turn", 1, rows=1000))
        assert (appender.next_sequence, appender.pending_bytes) == (1, 0)
        appender.write(sample_batch(SPEC, "turn", 1))


def test_many_batches_pass_a_window_that_holds_few(owner: Owner, transport: LocalTransport) -> None:
    with Appender(transport, SPEC, "many") as appender:
        for number in range(1, 30):
            appender.write(sample_batch(SPEC, "many", number))
            assert appender.pending_bytes <= LIMITS.window_bytes
    assert owner.store.recording("docs").cursor("many") == 29


def test_a_stream_into_no_recording_is_refused(transport: LocalTransport) -> None:
    with pytest.raises(NotFound, match="lost"):
        Appender(transport, sample_spec("lost"), "p")


def test_a_stream_says_its_way_and_why_no_other(transport: LocalTransport) -> None:
    with Appender(transport, SPEC, "way", why_not_direct="no lock") as appender:
        assert (appender.producer, appender.route) == ("way", "through here; not direct: no lock")


def test_a_wait_ends_at_its_limit_and_says_what_is_missing(transport: LocalTransport) -> None:
    looks = itertools.count()
    with Appender(transport, SPEC, "waits") as appender:
        wanted = "waited 0.05 s until it is met: 0 batches are not durable, the last durable is 0"
        with pytest.raises(DeadlineExceeded, match=wanted):
            appender._wait_until(lambda: next(looks) > 10_000, 0.05, "it is met")
        assert next(looks) < 100, "it looks now and then, not all the time"
