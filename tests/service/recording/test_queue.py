"""The queue between a loop and its recorder's thread."""

import threading

import numpy as np
import pytest
import torch

from isogloss.errors import DeadlineExceeded, StorageError
from isogloss.service.recording import queue
from isogloss.service.recording.options import RecorderOptions, SampleRate
from isogloss.service.recording.queue import PassQueue, QueuedPass
from isogloss.service.recording.sampling import sample_position
from isogloss.service.recording.tally import Tally
from isogloss.service.recording.tensors import HostRows
from isogloss.service.recording.texts import NamedDocument
from isogloss.store import Document


def a_pass(first: int, documents: int, length: int = 4) -> QueuedPass:
    ids = [np.arange(length) + 1000 * (first + i) for i in range(documents)]
    rows = documents * length
    return QueuedPass(
        sites={"s": HostRows(tensor=torch.arange(rows * 2.0).reshape(rows, 2))},
        token_id=np.concatenate(ids).astype(np.uint32),
        position=np.tile(np.arange(length, dtype=np.uint32), documents),
        document_index=np.repeat(np.arange(documents), length),
        documents=tuple(ids),
        texts=None,
        groups=None,
        named=tuple(NamedDocument(Document.from_token_ids(one), None) for one in ids),
        step=0,
        rate=SampleRate(share=1.0),
    )


def test_a_wait_says_what_it_is_for_ends_and_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue, "SAY_AFTER_S", 0.05)
    full = PassQueue(RecorderOptions(queue_bytes=1, wait_s=0.2), Tally())
    full.put(a_pass(0, 2))
    with pytest.raises(DeadlineExceeded, match=r"waited 0\.2 s for room"):
        full.put(a_pass(2, 2))
    assert caplog.text.count("waiting for room") == 1
    with pytest.raises(DeadlineExceeded, match=r"^no room"):
        full.put(a_pass(4, 2))
    assert full.take() is not None
    full.put(a_pass(6, 2))


def test_a_wait_ends_when_there_is_room() -> None:
    full = PassQueue(RecorderOptions(queue_bytes=1, wait_s=60), Tally())
    full.put(a_pass(0, 2))
    thread = threading.Timer(0.1, full.take)
    thread.start()
    full.put(a_pass(2, 2))
    thread.join()
    left = full.take()
    assert left is not None
    assert left.token_id[0] == 2000


def test_what_is_queued_stays_when_recording_stops() -> None:
    stopped = PassQueue(RecorderOptions(), Tally())
    stopped.put(a_pass(0, 1))
    stopped.stop(KeyError("first"))
    stopped.stop(KeyError("second"))
    with pytest.raises(KeyError, match="first"):
        stopped.put(a_pass(1, 1))
    assert len(stopped.drain()) == 1
    assert not stopped.wait(0.01)
    stopped.close()
    assert stopped.wait(60)
    assert stopped.take() is None


@pytest.mark.parametrize("limit", [400, 1500])
def test_a_full_queue_keeps_what_a_hash_keeps_and_nothing_else(limit: int) -> None:
    tally = Tally()
    options = RecorderOptions(queue_bytes=limit, on_full="drop")
    thinned = PassQueue(options, tally)
    for number in range(40):
        thinned.put(a_pass(4 * number, 4))
    thinned.close()
    taken = thinned.drain()
    assert limit >= sum(queued.size for queued in taken)
    counts = tally.counts()
    shares = [rate.share for rate in counts.rates]
    assert shares == [2.0**-i for i in range(len(shares))]
    assert len(shares) > 2
    wanted = [
        document.id
        for i in range(160)
        if sample_position((document := Document.from_token_ids(np.arange(4) + 1000 * i)).id)
        < shares[-1]
    ]
    found = [named.document.id for queued in taken for named in queued.named or ()]
    assert found == wanted
    assert counts.sampled_out == 160 - len(wanted)
    assert counts.rows == 4 * len(wanted)
    for queued in taken:
        assert queued.rate == counts.rates[-1]
        rows = queued.sites["s"].tensor
        assert [len(one) for one in queued.content()] == [4] * len(queued.documents)
        np.testing.assert_array_equal(queued.token_id, np.concatenate(queued.documents))
        assert len(rows) == queued.rows


def test_rows_of_the_documents_that_stay_are_theirs() -> None:
    whole = a_pass(0, 8)
    share = SampleRate(share=0.5, first_document=1)
    kept = whole.below(share, Tally())
    assert kept is not None
    for i, ids in enumerate(kept.documents):
        where = np.flatnonzero(kept.document_index == i)
        original = np.flatnonzero(np.isin(whole.token_id, ids))
        np.testing.assert_array_equal(
            kept.sites["s"].tensor[where], whole.sites["s"].tensor[original]
        )
    assert whole.below(SampleRate(share=1e-9), Tally()) is None


def test_a_flush_is_due_once_what_was_put_before_is_taken_and_ends_when_it_is_done() -> None:
    passes = PassQueue(RecorderOptions(wait_s=60), Tally())
    passes.put(a_pass(0, 2))
    done = threading.Event()
    thread = threading.Thread(target=lambda: (passes.flush(), done.set()))
    thread.start()
    assert passes.wait(60)
    assert passes.flush_asked() == 0
    assert passes.take() is not None
    while not passes.flush_asked():
        assert passes.wait(60)
    assert not done.is_set()
    passes.flushed(passes.flush_asked())
    thread.join(60)
    assert done.is_set()
    assert passes.flush_asked() == 0
    assert not passes.wait(0.0)


def test_a_flush_that_cannot_be_done_ends_with_the_reason() -> None:
    passes = PassQueue(RecorderOptions(wait_s=0.1), Tally())
    with pytest.raises(DeadlineExceeded, match=r"waited 0\.1 s until all rows are durable"):
        passes.flush()
    passes.stop(StorageError("the disk is full"))
    with pytest.raises(StorageError, match="disk"):
        passes.flush()
