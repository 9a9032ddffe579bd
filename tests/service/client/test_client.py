"""The client, in process and against a real server: the same answers and the same errors."""

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.service.serving import append_samples, server_on

import isogloss
from isogloss import Client
from isogloss.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    InvalidName,
    IsoglossError,
    JobCancelled,
    NonFiniteRows,
    NotFound,
    ResourceExhausted,
    ServerUnavailable,
    ShapeError,
    StoreOwned,
    UnknownSite,
)
from isogloss.proto.v1.recordings_pb2 import ListRecordingsRequest, ListRecordingsResponse
from isogloss.service.transport.call import ask
from isogloss.service.values.results import FeatureRef
from isogloss.store import RecordingSpec, RowBatch
from isogloss.store.testing import sample_batch, sample_spec

VOCABULARY = [f"token-{i}" for i in range(1000)]


def made(client: Client, name: str, **changes: object) -> RecordingSpec:
    spec = sample_spec(name)
    if changes:
        spec = RecordingSpec.from_dict({**spec.to_dict(), **changes})
    client.create_recording(spec, VOCABULARY)
    return spec


def filled(client: Client, name: str, batches: int = 5) -> RecordingSpec:
    spec = made(client, name)
    with client.appender(name, "rank-0") as appender:
        append_samples(appender, spec, batches)
    return spec


# Recordings.


def test_a_read_of_no_rows_gives_an_empty_array_of_the_right_width(
    client: Client, name: str
) -> None:
    spec = filled(client, name, 1)
    found = client.read(name, spec.sites[0].name, 0, 0)
    assert found.shape == (0, spec.sites[0].width)
    assert found.dtype == spec.sites[0].numpy_dtype
    assert client.tokens(name, 0, 0).rows == 0


def test_a_pinned_revision_does_not_see_later_rows(client: Client, name: str) -> None:
    spec = filled(client, name, 2)
    before = client.recording(name)
    with client.appender(name, "rank-1") as appender:
        append_samples(appender, spec, 3)
    site = spec.sites[0].name
    assert client.recording(name).rows > before.rows
    assert len(client.read(name, site, revision=before.revision)) == before.rows
    assert client.tokens(name, revision=before.revision).rows == before.rows


def test_a_batch_larger_than_a_part_travels_in_parts_and_commits_whole(
    client: Client, name: str
) -> None:
    spec = made(client, name, sites=[{"name": "wide", "width": 2048, "dtype": "bfloat16"}])
    batch = sample_batch(spec, "rank-0", 1, rows=900)
    assert sum(len(piece) for piece in batch.encode()) > 3 << 20
    with client.appender(name, "rank-0") as appender:
        appender.write(batch)
    np.testing.assert_array_equal(client.read(name, "wide"), batch.sites["wide"])


def test_a_list_comes_in_pages_in_order_and_whole(client: Client) -> None:
    names = [f"page-{i}" for i in range(5)]
    for each in names:
        made(client, each)
    found: list[str] = []
    token = ""
    while True:
        request = ListRecordingsRequest(page_size=2, page_token=token)
        page = client.run(ask(request, ListRecordingsResponse))
        assert len(page.recordings) <= 2
        found += [recording.name.removeprefix("recordings/") for recording in page.recordings]
        token = page.next_page_token
        if not token:
            break
    assert found == [info.id for info in client.recordings()] == sorted(found)
    assert set(names) <= set(found)
    for bad in (ListRecordingsRequest(page_size=-1), ListRecordingsRequest(page_token="!")):
        with pytest.raises(InvalidInput, match="page_"):
            client.run(ask(bad, ListRecordingsResponse))


# Bad input.


SMALL = {"batch_rows": 8, "holdout": 0.0}
"""Of a training that the few rows of these tests suffice for."""

BAD_CALLS: list[tuple[Callable[[Client, str], object], type[IsoglossError], str]] = [
    (lambda c, n: c.recording("nothing-there"), NotFound, "nothing-there"),
    (lambda c, n: c.recording("Bad/../name"), InvalidName, "lower-case"),
    (lambda c, n: c.read("nothing-there", "x"), NotFound, "nothing-there"),
    (lambda c, n: c.read(n, "no.such.site"), UnknownSite, "layer.1/out"),
    (lambda c, n: c.read(n, "layer.2", 5, 2), InvalidInput, "range"),
    (lambda c, n: c.read(n, "layer.2", 0, 10**9), InvalidInput, "range"),
    (lambda c, n: c.tokens(n, -1), InvalidInput, "range"),
    (lambda c, n: c.appender("nothing-there", "p"), NotFound, "nothing-there"),
    (lambda c, n: c.appender(n, ""), InvalidInput, "producer"),
    (lambda c, n: c.statistics(n, "layer.9"), UnknownSite, "layer.2"),
    (lambda c, n: c.train(n, site="layer.1", features=8), UnknownSite, "layer.1/out"),
    (lambda c, n: c.train("nothing-there", site="x", features=8), NotFound, "nothing-there"),
    (
        lambda c, n: c.train(n, site="layer.2", features=8, more={"colour": 1}),
        InvalidInput,
        "learning_rate",
    ),
    (
        lambda c, n: c.train(n, site="layer.2", features=8, k=2, more={"k": 1}),
        InvalidInput,
        "twice",
    ),
    (
        lambda c, n: c.train(n, site="layer.2", features=8, more={"k": 1}),
        InvalidInput,
        "settings",
    ),
    (
        lambda c, n: c.train(n, site="layer.2", features=8, k=2, settings={"k": 2}),
        InvalidInput,
        "twice",
    ),
    (
        lambda c, n: c.train(n, site="layer.2", features=8, kind="os.system"),
        InvalidInput,
        "no kind 'os.system' is installed; there are: batch_topk, ",
    ),
    (
        lambda c, n: c.train(n, site="layer.2", features=8, wiring="../x"),
        InvalidInput,
        "no wiring '../x' is installed; there are: crosscoder, sae, transcoder",
    ),
    (
        lambda c, n: c.train(n, site="layer.2", features=8, k=2, settings={"steps": {"a": [1]}}),
        InvalidInput,
        "unknown settings",
    ),
    (
        lambda c, n: c.train(n, site="layer.2", features=8, settings={"k": 1.5}),
        InvalidInput,
        "k is 1.5; expected",
    ),
    (
        lambda c, n: c.train(n, site="layer.2", features=8, more={"batch_rows": "many"}),
        InvalidInput,
        "batch_rows",
    ),
    (lambda c, n: c.dictionary_info("nothing-there"), NotFound, "nothing-there"),
    (lambda c, n: c.probe("nothing-there"), NotFound, "nothing-there"),
    (lambda c, n: c.get_match("nothing-there"), NotFound, "nothing-there"),
    (lambda c, n: c.match("nothing-there", "nor-there"), NotFound, "nothing-there"),
    (lambda c, n: c.match("a", "b", settings={"size": 3}), InvalidInput, "min_fires"),
    (lambda c, n: c.create_probe(["nothing-there"]), NotFound, "nothing-there"),
    (lambda c, n: c.job("train-000000000000"), NotFound, "train-000000000000"),
    (
        lambda c, n: c.nearest(FeatureRef(dictionary="nothing-there", feature=0), ["b"]),
        NotFound,
        "nothing-there",
    ),
    (lambda c, n: c.encode("nothing-there", np.zeros((2, 3), np.float32)), NotFound, "nothing"),
    (lambda c, n: c.encode("nothing-there", np.zeros((2, 3))), ShapeError, "float64"),
    (lambda c, n: c.encode("nothing-there", np.zeros((2, 3), ">f4")), ShapeError, ">f4"),
]


@pytest.mark.parametrize(("call", "kind", "says"), BAD_CALLS)
def test_bad_input_is_refused_with_what_was_found_and_wanted(
    client: Client,
    call: Callable[[Client, str], object],
    kind: type[IsoglossError],
    says: str,
) -> None:
    made(client, "bad-input")
    with pytest.raises(kind) as caught:
        call(client, "bad-input")
    assert says in str(caught.value)
    assert type(caught.value) is kind


def test_rows_with_nan_are_refused_where_the_recording_says_so(client: Client, name: str) -> None:
    spec = made(client, name, nonfinite="reject")
    batch = sample_batch(spec, "rank-0", 1)
    batch = RowBatch(
        producer="rank-0",
        sequence=1,
        sites={site: np.full_like(values, np.nan) for site, values in batch.sites.items()},
        token_id=batch.token_id,
        document=batch.document,
        position=batch.position,
        span=batch.span,
        documents=batch.documents,
    )
    with (
        client.appender(name, "rank-0") as appender,
        pytest.raises(NonFiniteRows, match="drop them"),
    ):
        appender.write(batch)


def test_a_batch_beyond_the_limit_is_refused(client: Client, name: str) -> None:
    spec = made(client, name, sites=[{"name": "wide", "width": 65536, "dtype": "float32"}])
    with (
        client.appender(name, "rank-0") as appender,
        pytest.raises(ResourceExhausted, match="fewer rows"),
    ):
        appender.write(sample_batch(spec, "rank-0", 1, rows=300))


# Life of a client.


def test_a_closed_client_and_a_closed_appender_say_so(tmp_path: Path) -> None:
    client = isogloss.connect(tmp_path / "store")
    spec = made(client, "sample")
    with client.appender("sample", "p") as appender:
        append_samples(appender, spec, 1)
    with pytest.raises(Conflict, match="closed"):
        appender.flush()
    client.close()
    client.close()
    with pytest.raises(Conflict, match="connect again"):
        client.recordings()


def test_an_absent_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="isogloss serve"):
        isogloss.connect(f"unix:{tmp_path}/nobody", timeout_s=5)
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        isogloss.connect("")


def test_a_store_has_one_owner_and_a_server_is_called_instead(tmp_path: Path) -> None:
    with (
        isogloss.connect(tmp_path / "store"),
        pytest.raises(StoreOwned, match=str(os.getpid())),
    ):
        isogloss.connect(tmp_path / "store")
    with server_on(tmp_path / "store"), isogloss.connect(tmp_path / "store") as client:
        assert not client.is_local
        assert client.address.startswith("unix:")
    with isogloss.connect(tmp_path / "store") as client:
        assert client.is_local


def _use_in_fork(client: Client, answers: "multiprocessing.Queue[str]") -> None:
    try:
        client.recordings()
        answers.put("worked")
    except Conflict as error:
        answers.put(str(error))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_told_to_connect_again(client: Client) -> None:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[str] = context.Queue()
    child = context.Process(target=_use_in_fork, args=(client, answers))
    child.start()
    said = answers.get(timeout=20)
    child.join(20)
    assert "connect again" in said
    assert "fork" in said


def test_the_asynchronous_client_agrees_with_the_blocking_one(served_store: Path) -> None:
    with isogloss.connect(served_store) as blocking:
        spec = filled(blocking, "agreement", 4)

        async def ask() -> None:
            async with await isogloss.connect_async(served_store) as client:
                assert await client.recordings() == blocking.recordings()
                site = spec.sites[0].name
                np.testing.assert_array_equal(
                    await client.read("agreement", site), blocking.read("agreement", site)
                )
                assert await client.documents("agreement") == blocking.documents("agreement")
                assert await client.steps("agreement") == blocking.steps("agreement")
                known = blocking.known_documents("agreement", 0)
                assert await client.known_documents("agreement", 0) == known != {}
                assert set(await client.documents("agreement", step=0)) == set(known)
                assert await client.documents("agreement", step=7) == {}
                assert (await client.tokens("agreement")).rows == blocking.tokens("agreement").rows
                assert await client.vocabulary("agreement") == tuple(VOCABULARY)
                with pytest.raises(NotFound, match="nothing-there"):
                    await client.recording("nothing-there")
                with pytest.raises(NotFound, match=r"layer\.2"):
                    await client.read("agreement", "no.site")
                async with await client.appender("agreement", "async") as appender:
                    await appender.write(sample_batch(spec, "async", appender.next_sequence))
                    await appender.flush()
                    assert appender.durable_sequence == 1

        asyncio.run(ask())
        assert blocking.recording("agreement").rows > 0


def test_an_asynchronous_client_owns_a_store_too_and_may_leave_its_queue_alone(
    tmp_path: Path,
) -> None:
    async def use() -> None:
        async with await isogloss.connect_async(tmp_path / "store", run_workers=False) as client:
            assert client.is_local
            spec = sample_spec()
            await client.create_recording(spec, VOCABULARY)
            async with await client.appender("sample", "p") as appender:
                await appender.write(sample_batch(spec, "p", 1))
            assert len(await client.read("sample", "layer.2")) == sample_batch(spec, "p", 1).rows
            job = await client.train(
                "sample", site="layer.2", features=8, k=2, more={"batch_rows": 8, "holdout": 0.0}
            )
            await asyncio.sleep(0.3)
            assert ((await job.info()).state, (await job.info()).attempt) == ("QUEUED", 0)

    asyncio.run(use())


def test_a_call_without_time_left_is_not_made(served_store: Path) -> None:
    with isogloss.connect(served_store) as client:
        hurried = Client(client._transport, timeout_s=0)
        with pytest.raises(DeadlineExceeded):
            hurried.recordings()


# Jobs: queued, listed, cancelled; what they make is tested with the tasks.


def test_a_job_is_queued_found_again_and_cancelled(client: Client, name: str) -> None:
    filled(client, name, 2)
    job = client.train(name, site="layer.2", features=8, k=2, more=SMALL, request_id="once")
    again = client.train(name, site="layer.2", features=8, k=2, more=SMALL, request_id="once")
    assert (again.name, job.state) == (job.name, "QUEUED")
    assert job.name in [info.name for info in client.jobs()]
    found = client.job(job.name)
    assert (found.kind, found.info().step) == ("train", 0)
    with pytest.raises(DeadlineExceeded, match="goes on"):
        job.result(timeout_s=0.2)
    found.cancel()
    assert [info.state for info in job.progress()][-1] == "CANCELLED"
    with pytest.raises(JobCancelled):
        job.result()
