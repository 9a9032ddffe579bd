# ruff: noqa: D102  (the name of a test is its sentence)
"""What every way to reach a store must do, as tests to subclass.

Override the fixture :meth:`ClientContract.client` in a class whose name begins with ``Test``::

    class TestServedClient(ClientContract):
        @pytest.fixture
        def client(self, remote_client: Client) -> Client: ...

:class:`JobContract` wants the same of a client whose store runs jobs.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    DocumentMismatch,
    InvalidInput,
    JobCancelled,
    JobFailed,
    NoSharedDocuments,
    NotFound,
    SequenceGap,
    ShapeError,
    UnknownSite,
)
from isogloss.service.client.client import Client
from isogloss.store import Document, RecordingSpec, RowBatch, SiteSpec
from isogloss.store.testing import sample_batch, sample_spec
from isogloss.version import __version__

VOCABULARY = tuple(f"token-{number}" for number in range(1000))
"""Of the recordings that the contracts make."""

_FINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}
_STATES = {"QUEUED", "STARTING", "RUNNING", "CANCELLING"} | _FINAL


class ClientContract:
    """Tests of the :class:`~isogloss.Client` seam: recordings and what they hold."""

    @pytest.fixture
    def client(self) -> Client:
        """Return the client; tests make recordings of their own in its store."""
        raise TypeError(f"{type(self).__name__} must override the fixture client")

    def test_what_answers_says_what_it_is(self, client: Client) -> None:
        info = client.server_info()
        _require(info.version == __version__, f"it is of version {info.version}")
        _require("train" in info.job_kinds, f"it knows the jobs {info.job_kinds}")
        _require(info.limits.batch_bytes > 0, f"it takes batches of {info.limits.batch_bytes} B")
        _require(info.limits.page_size > 0, f"its pages hold {info.limits.page_size} items")
        listens = bool(info.addresses)
        _require(listens is not client.is_local, f"it listens on {info.addresses}")
        _require(info.start_time <= time.time(), f"it began at {info.start_time}")

    def test_a_recording_comes_back_as_it_was_described(self, client: Client) -> None:
        plain = sample_spec(_name())
        changes = {
            "model": {"name": "m/ö", "revision": "r", "ancestry": {"n": 3, "f": 0.5, "l": [1, {}]}},
            "provenance": {"by": "me"},
            "nonfinite": "reject",
        }
        spec = RecordingSpec.from_dict({**plain.to_dict(), **changes})
        info = client.create_recording(spec, VOCABULARY)
        _require(info.spec == spec, f"{spec} came back as {info.spec}")
        _require((info.id, info.rows) == (spec.recording, 0), f"{info.id} has {info.rows} rows")
        _require(client.recording(info.id) == info, "asking again gave another answer")
        _require(info in client.recordings(), "the list lacks it")
        _require(client.vocabulary(info.id) == VOCABULARY, "the vocabulary is another")

    def test_creating_an_equal_recording_again_gives_the_first(self, client: Client) -> None:
        spec = _create(client)
        first = client.recording(spec.recording)
        again = client.create_recording(spec, VOCABULARY)
        _require(again.uid == first.uid, f"a second one was made: {again.uid}")

    def test_creating_a_different_recording_under_a_name_is_refused(self, client: Client) -> None:
        spec = _create(client)
        with pytest.raises(AlreadyExists, match=spec.recording):
            client.create_recording(replace(spec, corpus="another"), VOCABULARY)
        with pytest.raises(AlreadyExists, match=spec.recording):
            client.create_recording(spec, VOCABULARY[:5])

    def test_deleting_asks_for_the_newest_etag(self, client: Client) -> None:
        spec = _create(client)
        _append(client, spec, 3)
        with pytest.raises(Conflict, match="etag"):
            client.delete_recording(spec.recording, "old")
        with pytest.raises(InvalidInput, match="etag is empty"):
            client.delete_recording(spec.recording, "")
        client.delete_recording(spec.recording, client.recording(spec.recording).etag)
        with pytest.raises(NotFound, match=spec.recording):
            client.recording(spec.recording)
        _require(
            spec.recording not in [info.id for info in client.recordings()], "it is still listed"
        )

    def test_what_is_appended_is_durable_and_read_back_equal(self, client: Client) -> None:
        spec = _create(client)
        name, batches = spec.recording, _batches(spec, 7)
        with client.appender(name, "rank-0") as appender:
            for batch in batches:
                appender.write(batch)
            appender.flush()
            state = appender.durable_sequence, appender.next_sequence, appender.pending_bytes
            _require(state == (7, 8, 0), f"durable, next and pending are {state}")
        for site in spec.sites:
            wanted = np.concatenate([batch.sites[site.name] for batch in batches])
            found = client.read(name, site.name)
            _require(found.dtype == wanted.dtype, f"{wanted.dtype} came back as {found.dtype}")
            np.testing.assert_array_equal(found, wanted)
            np.testing.assert_array_equal(client.read(name, site.name, 3, 9), wanted[3:9])
            count = client.statistics(name, site.name).count
            _require(count == len(wanted), f"statistics count {count} rows of {len(wanted)}")
        rows = sum(batch.rows for batch in batches)
        counted = client.recording(name).rows
        _require(counted == rows, f"the recording has {counted} rows, {rows} were sent")

    def test_tokens_and_documents_are_read_back_equal(self, client: Client) -> None:
        spec = _create(client)
        name, batches = spec.recording, _batches(spec, 4)
        _append(client, spec, 4)
        found = client.tokens(name)
        for column in ("token_id", "document", "position", "span"):
            wanted = np.concatenate([getattr(batch, column) for batch in batches])
            np.testing.assert_array_equal(getattr(found, column), wanted, err_msg=column)
        part = client.tokens(name, 2, 4)
        np.testing.assert_array_equal(part.token_id, found.token_id[2:4])
        documents = {batch.documents[0].id: batch.documents[0] for batch in batches}
        _require(client.documents(name) == documents, "other documents came back")
        without = client.documents(name, with_text=False)
        _require(without.keys() == documents.keys(), "without text, documents are missing")
        _require(all(document.text is None for document in without.values()), "text was sent")

    def test_rows_keep_their_step_and_a_document_is_known_at_its_own(self, client: Client) -> None:
        spec = _create(client)
        name = spec.recording
        _require(not client.recording(name).has_steps, "an empty recording has steps")
        first, other = (sample_batch(spec, "rank-0", sequence) for sequence in (1, 2))
        last = (1 << 64) - 1
        sent = [first, replace(other, step=last), replace(first, sequence=3, step=10)]
        with client.appender(name, "rank-0") as appender:
            appender.write(sent[0])
            appender.flush()
            _require(not client.recording(name).has_steps, "rows of step 0 have steps")
            pinned = client.recording(name).revision
            for batch in sent[1:]:
                appender.write(batch)
        wanted = np.concatenate([batch.columns.step for batch in sent])
        found = client.tokens(name).step
        _require(found.dtype == wanted.dtype, f"steps are {found.dtype}")
        _require(found.tolist() == wanted.tolist(), f"steps came back as {found}")
        middle = client.tokens(name, first.rows - 1, first.rows + 1).step.tolist()
        _require(middle == [0, last], f"two rows have the steps {middle}")
        document, second = first.documents[0].id, other.documents[0].id
        counts = {0: {document: first.rows}, 10: {document: first.rows}, last: {second: other.rows}}
        for step, known in {**counts, 5: {}}.items():
            got = client.known_documents(name, step)
            _require(got == known, f"known at {step} are {got}")
            _require(set(client.documents(name, step=step)) == set(known), f"others at {step}")
        _require(set(client.documents(name)) == {document, second}, "documents without a step")
        listed = [(step.step, step.rows, step.documents) for step in client.steps(name)]
        _require(
            listed == [(0, first.rows, 1), (10, first.rows, 1), (last, other.rows, 1)],
            f"steps are {listed}",
        )
        _require([s.step for s in client.steps(name, revision=pinned)] == [0], "not pinned")
        _require(client.known_documents(name, 10, revision=pinned) == {}, "not pinned")
        _require(client.recording(name).has_steps, "it has no steps")
        _require(client.recording(name) in client.recordings(), "the list says otherwise")
        for wrong in (-1, 1 << 64):
            with pytest.raises(InvalidInput, match="step is"):
                client.known_documents(name, wrong)

    def test_training_on_several_steps_is_refused_until_one_is_named(self, client: Client) -> None:
        spec = _create(client)
        with client.appender(spec.recording, "rank-0") as appender:
            for sequence, step in ((1, 10), (2, 20)):
                appender.write(replace(sample_batch(spec, "rank-0", sequence), step=step))
        with pytest.raises(InvalidInput, match=r"rows of 2 training steps .*10: .*20: .*steps="):
            client.train(spec.recording, site="layer.2", features=8, k=2)
        with pytest.raises(InvalidInput, match="no rows of training step 15; it has 10"):
            client.train(spec.recording, site="layer.2", features=8, k=2, steps=[20, 15])
        with pytest.raises(InvalidInput, match="step is -1"):
            client.train(spec.recording, site="layer.2", features=8, k=2, steps=[-1])

    def test_a_producer_goes_on_where_it_ended(self, client: Client) -> None:
        spec = _create(client)
        _append(client, spec, 3)
        with client.appender(spec.recording, "rank-0") as appender:
            state = appender.next_sequence, appender.durable_sequence
            _require(state == (4, 3), f"next and durable are {state}")
            appender.write(sample_batch(spec, "rank-0", 4))
        wanted = sum(batch.rows for batch in _batches(spec, 4))
        rows = client.recording(spec.recording).rows
        _require(rows == wanted, f"{rows} rows, wanted {wanted}")

    def test_what_does_not_exist_is_not_found(self, client: Client) -> None:
        with pytest.raises(NotFound, match="nothing-there"):
            client.recording("nothing-there")
        with pytest.raises(NotFound, match="nothing-there"):
            client.read("nothing-there", "x")
        with pytest.raises(NotFound, match="nothing-there"):
            client.appender("nothing-there", "rank-0")
        with pytest.raises(NotFound, match="nothing-there"):
            client.dictionary_info("nothing-there")
        with pytest.raises(NotFound, match="train-000000000000"):
            client.job("train-000000000000")

    def test_an_unknown_site_is_refused_with_the_nearest(self, client: Client) -> None:
        spec = _create(client)
        with pytest.raises(UnknownSite, match=r"layer\.1/out"):
            client.train(spec.recording, site="layer.1", features=8)
        with pytest.raises(NotFound, match=r"layer\.2"):
            client.read(spec.recording, "layer.9")

    def test_a_batch_of_the_wrong_width_dtype_or_sites_is_refused(self, client: Client) -> None:
        spec = _create(client)
        first = spec.sites[0]
        for sites in [
            (first, SiteSpec(name="layer.2", width=7, dtype="float32")),
            (first, SiteSpec(name="layer.2", width=6, dtype="float16")),
            (first,),
            (first, SiteSpec(name="layer.3", width=6, dtype="float32")),
        ]:
            batch = sample_batch(sample_spec(spec.recording, sites=sites), "rank-0", 1)
            with (
                client.appender(spec.recording, "rank-0") as appender,
                pytest.raises(ShapeError, match=r"layer\.2"),
            ):
                appender.write(batch)
        _require(client.recording(spec.recording).rows == 0, "rows were taken nevertheless")

    def test_a_batch_out_of_turn_is_refused_and_its_turn_stays(self, client: Client) -> None:
        spec = _create(client)
        with client.appender(spec.recording, "rank-0") as appender:
            with pytest.raises(SequenceGap, match="wanted 1"):
                appender.write(sample_batch(spec, "rank-0", 2))
            with pytest.raises(InvalidInput, match="rank-9"):
                appender.write(sample_batch(spec, "rank-9", 1))
            appender.write(sample_batch(spec, "rank-0", 1))
        rows = client.recording(spec.recording).rows
        _require(rows == sample_batch(spec, "rank-0", 1).rows, f"{rows} rows are there")

    def test_two_groups_for_one_document_are_refused(self, client: Client) -> None:
        spec = _create(client)
        _append(client, spec, 1)
        batch = sample_batch(spec, "rank-0", 1)
        changed = Document.from_text(batch.documents[0].text or "", group="elsewhere")
        with client.appender(spec.recording, "rank-1") as appender:
            appender.write(replace(batch, producer="rank-1", documents=(changed,)))
            with pytest.raises(DocumentMismatch, match="elsewhere"):
                appender.flush(10)
            appender.close(flush=False)
        rows = client.recording(spec.recording).rows
        _require(rows == batch.rows, f"{rows} rows, of which {batch.rows} were accepted")


class JobContract:
    """Tests of the :class:`~isogloss.service.Job` seam, over workers that really run."""

    @pytest.fixture
    def client(self) -> Client:
        """Return a client whose store runs jobs."""
        raise TypeError(f"{type(self).__name__} must override the fixture client")

    def test_a_job_says_how_far_it_is_and_gives_what_it_made(self, client: Client) -> None:
        name = _trainable(client)
        job = client.train(
            name, site="layer.2", features=8, k=2, epochs=2.0, more={"batch_rows": 64}
        )
        _require(job.kind == "train", f"a training is of the kind {job.kind!r}")
        seen = list(job.progress())
        states = [info.state for info in seen]
        _require(set(states) <= _STATES, f"unknown states in {states}")
        _require(states[-1] == "SUCCEEDED", f"it ended {states[-1]}: {seen[-1].error}")
        _require(not set(states[:-1]) & _FINAL, f"it went on after its end: {states}")
        steps = [info.step for info in seen]
        _require(steps == sorted(steps), f"progress went back: {steps}")
        last = seen[-1]
        _require(last.step == last.total_steps > 0, f"done at {last.step} of {last.total_steps}")
        _require({info.name for info in seen} == {job.name}, "it changed its name")
        made = job.result(30)
        found = made.recording, made.site, made.features, made.width
        _require(found == (name, "layer.2", 8, 6), f"it made {found}")
        _require(made.settings.get("k") == 2, f"it has the settings {made.settings}")
        _require(
            client.dictionary_info(made.id) == made, "the dictionary is another than the result"
        )
        _require(job.info() == client.job(job.name).info(), "its handle found again says more")
        _require(client.job(job.name).result(30) == made, "found again it gives another result")
        _require(job.name in [info.name for info in client.jobs()], "the list lacks it")

    def test_a_dictionary_is_of_the_steps_that_were_named(self, client: Client) -> None:
        name = _trainable(client, steps=(0, 7))
        config = {"batch_rows": 64}
        made = client.train(
            name, site="model.layer.2", features=8, k=2, epochs=1.0, steps=[7], more=config
        ).result(60)
        _require(made.site == "layer.2", f"it is of {made.site}, not of the recorded site's name")
        steps = [source.steps for source in made.sources]
        _require(steps == [(7,)], f"it was trained on steps {steps}")
        rows = made.provenance["rows_trained"]
        of_step = next(info.rows for info in client.steps(name) if info.step == 7)
        _require(0 < int(str(rows)) <= of_step, f"{rows} rows of {of_step}")
        probe = client.create_probe([name], holdout=1.0, steps=[7]).result(60)
        _require(probe.steps == (7,), f"the probe is of steps {probe.steps}")
        other = client.create_probe([name], holdout=1.0).result(60)
        _require(other.id != probe.id, "probes of other steps have one id")
        _require(other.steps == (), f"the default probe is of steps {other.steps}")

    def test_a_cancelled_job_ends_and_has_no_result(self, client: Client) -> None:
        name = _trainable(client)
        job = client.train(
            name, site="layer.2", features=8, k=2, epochs=1e6, more={"batch_rows": 64}
        )
        job.cancel()
        state = [info.state for info in job.progress()][-1]
        _require(state == "CANCELLED", f"it ended {state}")
        with pytest.raises(JobCancelled, match=job.name):
            job.result(10)
        job.cancel()
        _require(job.state == "CANCELLED", f"cancelled again it is {job.state}")

    def test_a_job_that_fails_says_why(self, client: Client) -> None:
        strangers = [_create(client) for _ in range(2)]
        for producer, spec in zip(("rank-0", "rank-1"), strangers, strict=True):
            _append(client, spec, 2, producer=producer)
        job = client.create_probe([spec.recording for spec in strangers])
        with pytest.raises(JobFailed, match=NoSharedDocuments.reason):
            job.result(60)
        info = job.info()
        _require(info.state == "FAILED", f"it is {info.state}")
        reason, message = info.error or ("", "")
        _require(reason == NoSharedDocuments.reason, f"the reason is {reason!r}")
        _require(strangers[0].recording in message, f"{message!r} does not say what was found")


def _name() -> str:
    return f"contract-{uuid.uuid4().hex[:16]}"


def _create(client: Client) -> RecordingSpec:
    spec = sample_spec(_name())
    client.create_recording(spec, VOCABULARY)
    return spec


def _batches(spec: RecordingSpec, count: int) -> list[RowBatch]:
    return [sample_batch(spec, "rank-0", sequence) for sequence in range(1, count + 1)]


def _append(client: Client, spec: RecordingSpec, count: int, producer: str = "rank-0") -> None:
    with client.appender(spec.recording, producer) as appender:
        for sequence in range(1, count + 1):
            appender.write(sample_batch(spec, producer, sequence))


def _trainable(client: Client, steps: Sequence[int] = (0,)) -> str:
    """Record enough documents of enough groups that some are held out and some are not."""
    spec = _create(client)
    for producer in range(8):
        with client.appender(spec.recording, f"rank-{producer}") as appender:
            for number, step in enumerate(steps):
                for sequence in (1, 2, 3):
                    batch = sample_batch(spec, f"rank-{producer}", sequence)
                    appender.write(replace(batch, sequence=sequence + 3 * number, step=step))
    return spec.recording


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
