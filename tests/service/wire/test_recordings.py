"""Recordings, revisions, documents and statistics travel without a loss."""

import dataclasses

import numpy as np
import pytest

from isogloss.errors import InternalError, InvalidInput
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.proto.v1 import types_pb2 as types
from isogloss.service.values.results import RecordingInfo
from isogloss.service.wire.convert import from_message, to_message
from isogloss.service.wire.recordings import (
    from_recording,
    from_step_runs,
    optional_revision,
    to_document,
    to_recording,
    to_step_runs,
)
from isogloss.store import (
    Document,
    NormSpread,
    RecordingSpec,
    Revision,
    SiteSpec,
    SiteStatistics,
    StepInfo,
)
from isogloss.store.lanes.statistics import measure
from isogloss.store.schema.recording_spec import Dtype
from isogloss.store.testing import sample_spec

REVISION = Revision(recording="u1", lanes=(("l1", 5), ("l2", 7)))
SPEC = dataclasses.replace(sample_spec("docs"), provenance={"seed": "7"})


def test_a_recording_that_exists_comes_back_as_it_was() -> None:
    info = RecordingInfo(uid="u1", etag="e1", spec=SPEC, revision=REVISION, created=1000.5)
    message = to_recording(info)
    assert (message.name, message.uid, message.etag) == ("recordings/docs", "u1", "e1")
    assert (message.rows, message.create_time.seconds, message.create_time.nanos) == (
        12,
        1000,
        500_000_000,
    )
    assert not message.has_steps
    assert from_recording(message) == info
    trained = dataclasses.replace(info, has_steps=True)
    assert from_recording(to_recording(trained)) == trained


def test_a_revision_says_its_id_and_the_rows_of_each_lane_in_order() -> None:
    message = to_message(REVISION, types.Revision)
    assert (message.id, message.recording_uid) == (REVISION.id, "u1")
    assert [(lane.lane, lane.rows) for lane in message.lanes] == [("l1", 5), ("l2", 7)]
    assert from_message(message, Revision) == REVISION
    assert optional_revision(REVISION) == message
    assert optional_revision(None) is None


def test_what_is_done_with_nan_is_one_bit() -> None:
    for nonfinite, is_set in (("reject", True), ("count", False)):
        spec = RecordingSpec.from_dict({**SPEC.to_dict(), "nonfinite": nonfinite})
        message = to_message(spec, pb.Recording)
        assert message.reject_nonfinite is is_set
        assert from_message(message, RecordingSpec) == spec


def test_a_site_travels_with_each_dtype() -> None:
    kinds: tuple[tuple[Dtype, types.Dtype.ValueType], ...] = (
        ("bfloat16", types.DTYPE_BFLOAT16),
        ("float16", types.DTYPE_FLOAT16),
        ("float32", types.DTYPE_FLOAT32),
    )
    for dtype, wanted in kinds:
        site = SiteSpec(name="layer.1", width=3, dtype=dtype)
        message = to_message(site, pb.Site)
        assert (message.name, message.width, message.dtype) == ("layer.1", 3, wanted)
        assert from_message(message, SiteSpec) == site


def test_statistics_come_back_as_double_precision_arrays() -> None:
    message = pb.SiteStatistics(
        count=3,
        nonfinite=1,
        norm_mean=0.5,
        norm_max=2.5,
        revision="r",
        mean=[0.5, -1],
        m2=[0.25, 2],
    )
    found = from_message(message, SiteStatistics)
    assert (found.count, found.nonfinite, found.revision) == (3, 1, "r")
    assert (found.norm_mean, found.norm_max) == (0.5, 2.5)
    for values, wanted in ((found.mean, [0.5, -1.0]), (found.m2, [0.25, 2.0])):
        assert values.dtype == np.float64
        assert values.tolist() == wanted
    assert found.norms is None
    assert to_message(found, pb.SiteStatistics) == message


def test_the_spread_of_norms_comes_back_as_it_was() -> None:
    rows = np.random.default_rng(0).normal(0, 1, (500, 6)).astype(np.float32)
    rows[::100] *= 100
    measured = measure([rows], 6, [np.arange(500, dtype=np.uint32) % 100])
    found = from_message(to_message(measured, pb.SiteStatistics), SiteStatistics)
    assert measured.norms is not None
    assert found.norms is not None
    for name in ("bins", "counts", "squares", "class_means", "class_m2"):
        sent, there = getattr(measured.norms, name), getattr(found.norms, name)
        assert (sent.dtype, sent.shape) == (there.dtype, there.shape)
        np.testing.assert_array_equal(sent, there)
    assert found.huge == measured.huge
    assert found.huge is not None
    empty = to_message(SiteStatistics.empty(6), pb.SiteStatistics)
    assert from_message(empty, SiteStatistics).merge(measured).norms is measured.norms
    for odd in (pb.NormSpread(bins=[1, 2], counts=[1]), pb.NormSpread(counts=[1])):
        with pytest.raises(InvalidInput, match="norm spread"):
            from_message(odd, NormSpread)
    with pytest.raises(InvalidInput, match="means of 2 classes"):
        from_message(pb.NormSpread(class_m2=[1, 2], class_means=[1]), NormSpread)


def test_a_document_leaves_its_text_behind_where_nobody_wants_it() -> None:
    document = Document.from_text("some words", group="g")
    whole = to_document(document, with_text=True)
    assert (whole.key, whole.text, whole.group) == (document.key, "some words", "g")
    bare = to_document(document, with_text=False)
    assert (bare.key, bare.group, bare.HasField("text")) == (document.key, "g", False)
    ids = to_document(Document.from_token_ids([1, 2]), with_text=True)
    assert not ids.HasField("text")


def test_steps_travel_as_runs_and_cost_nothing_where_all_are_0() -> None:
    column = np.array([0, 0, 7, (1 << 64) - 1, (1 << 64) - 1], np.uint64)
    runs = to_step_runs(column)
    assert [(run.step, run.rows) for run in runs] == [(0, 2), (7, 1), ((1 << 64) - 1, 2)]
    assert from_step_runs(runs, 5).tolist() == column.tolist()
    assert to_step_runs(np.zeros(4, np.uint64)) == []
    assert from_step_runs([], 4).tolist() == [0] * 4
    bare = pb.ReadTokensResponse(rows=4)
    assert pb.ReadTokensResponse(rows=4, steps=[]).SerializeToString() == bare.SerializeToString()
    for wrong in ([(1, 4)], [(1, 6)], [(1, 6), (2, -1)], [(1, 5), (2, 0)]):
        sent = [pb.StepRun(step=step, rows=rows) for step, rows in wrong]
        with pytest.raises(InternalError, match="for 5 rows"):
            from_step_runs(sent, 5)


def test_what_was_recorded_at_a_step_travels_whole() -> None:
    step = StepInfo(step=(1 << 64) - 1, rows=5, documents=2)
    message = to_message(step, pb.Step)
    assert (message.step, message.rows, message.documents) == ((1 << 64) - 1, 5, 2)
    assert from_message(message, StepInfo) == step
