"""Calls of upkeep, asked of handlers over a small store."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.calls.filled import SPEC, append, owner_of

from isogloss.errors import InvalidInput, InvalidName, NotFound, UnknownSite
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.calls import upkeep as calls
from isogloss.service.calls.upkeep import UpkeepHandlers
from isogloss.service.control.owner import Owner
from isogloss.store.testing import sample_spec

DOCS = "recordings/docs"


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    with owner_of(tmp_path_factory.mktemp("upkeep") / "store") as owner:
        _append_three_lanes(owner)
        yield owner


def _append_three_lanes(owner: Owner) -> None:
    for producer in ("p", "q", "r"):
        append(owner, sample_spec("third"), 1, producer)


@pytest.fixture(scope="module")
def handlers(owner: Owner) -> UpkeepHandlers:
    return UpkeepHandlers(owner)


def test_lanes_are_listed_in_row_order_in_pages(owner: Owner, handlers: UpkeepHandlers) -> None:
    wanted = [state.name for state in owner.store.recording("third").lanes()]
    first = handlers.list_lanes(pb.ListLanesRequest(name="recordings/third", page_size=2))
    rest = handlers.list_lanes(
        pb.ListLanesRequest(name="recordings/third", page_size=2, page_token=first.next_page_token)
    )
    assert [lane.name for lane in first.lanes] == wanted[:2]
    assert [lane.name for lane in rest.lanes] == wanted[2:]
    assert (len(wanted), rest.next_page_token) == (3, "")
    assert [dict(lane.cursors) for lane in (*first.lanes, *rest.lanes)] == [
        {"p": 1},
        {"q": 1},
        {"r": 1},
    ]
    with pytest.raises(InvalidName, match="recordings/ID"):
        handlers.list_lanes(pb.ListLanesRequest(name="third"))


def test_a_sound_recording_ends_with_a_message_without_problems(handlers: UpkeepHandlers) -> None:
    framed = list(handlers.verify_recording(_verify()))
    assert not any(answer.payload for answer in framed)
    answers = [answer.head for answer in framed]
    assert [list(head.problems) for head in answers] == [[]] * len(answers)
    assert answers[-1].progress.done == answers[-1].progress.total > 0
    with pytest.raises(NotFound, match="lost"):
        next(handlers.verify_recording(pb.VerifyRecordingRequest(name="recordings/lost")))


def _verify() -> pb.VerifyRecordingRequest:
    return pb.VerifyRecordingRequest(name=DOCS)


def test_many_problems_come_in_several_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calls._PROBLEMS == 1000
    with owner_of(tmp_path / "store") as owner:
        for producer in ("q", "r"):
            append(owner, SPEC, 1, producer)
        recording = owner.store.recording("docs")
        for lane in recording.lanes():
            lanes = owner.store.root / "recordings" / recording.uid / "lanes"
            with (lanes / lane.name / "site-1/c/0/0").open("r+b") as file:
                file.seek(4096 + 5)
                byte = file.read(1)[0]
                file.seek(4096 + 5)
                file.write(bytes([byte ^ 1]))
        handlers = UpkeepHandlers(owner)
        (whole,) = (
            list(answer.head.problems)
            for answer in handlers.verify_recording(_verify())
            if answer.head.problems
        )
        assert len(whole) == 3
        monkeypatch.setattr(calls, "_PROBLEMS", 1)
        parts = [
            list(answer.head.problems)
            for answer in handlers.verify_recording(_verify())
            if answer.head.problems
        ]
        assert parts == [[problem] for problem in whole]
    assert {problem.recording for problem in whole} == {DOCS}


def test_compacting_takes_the_longest_lane_that_is_asked_for(tmp_path: Path) -> None:
    with owner_of(tmp_path / "store") as owner:
        _append_three_lanes(owner)
        _check_compacting(owner, UpkeepHandlers(owner))


def _check_compacting(owner: Owner, handlers: UpkeepHandlers) -> None:
    rows = sum(state.rows for state in owner.store.recording("third").lanes())
    name = "recordings/third"
    for max_rows in (0, -1):
        with pytest.raises(InvalidInput, match="max_rows"):
            list(handlers.compact_recording(_compact(name, max_rows)))
    *_, alone = handlers.compact_recording(_compact(name, 1))
    assert (alone.head.result.lanes, alone.head.result.into) == (0, 0)
    *_, joined = handlers.compact_recording(_compact(name, None))
    assert (joined.head.result.lanes, joined.head.result.into) == (3, 1)
    assert joined.head.result.rows == rows
    assert not joined.payload


def _compact(name: str, max_rows: int | None) -> pb.CompactRecordingRequest:
    return pb.CompactRecordingRequest(name=name, max_rows=max_rows)


def test_compressing_says_what_it_came_to_in_its_last_message_alone(
    handlers: UpkeepHandlers,
) -> None:
    *steps, last = handlers.compress_recording(pb.CompressRecordingRequest(name=DOCS))
    assert not any(step.head.HasField("result") for step in steps)
    assert last.head.HasField("result")
    assert last.head.result.bytes_before > 0
    assert last.head.result.bytes_after > 0


def test_quantising_must_be_meant_and_takes_all_sites_where_none_is_named(
    tmp_path: Path,
) -> None:
    with owner_of(tmp_path / "store") as owner:
        handlers = UpkeepHandlers(owner)
        request = pb.QuantiseRecordingRequest(name=DOCS)
        with pytest.raises(InvalidInput, match="accept_loss"):
            list(handlers.quantise_recording(request))
        request.accept_loss = True
        request.sites[:] = ["layer.9"]
        with pytest.raises(UnknownSite, match=r"layer\.2"):
            list(handlers.quantise_recording(request))
        request.sites[:] = ["layer.2"]
        *_, one = handlers.quantise_recording(request)
        assert [error.site for error in one.head.result.errors] == ["layer.2"]
        request.sites[:] = []
        *_, rest = handlers.quantise_recording(request)
        assert "layer.1/out" in [error.site for error in rest.head.result.errors]


@pytest.mark.parametrize(
    ("older_s", "age_s", "removed"),
    [(None, 86_300, 0), (None, 86_500, 1), (0, 0, 1), (100, 50, 0), (100, 150, 1)],
)
def test_garbage_is_a_day_old_where_nobody_says_otherwise(
    owner: Owner, handlers: UpkeepHandlers, older_s: float | None, age_s: float, removed: int
) -> None:
    orphan = owner.store.root / "dictionaries" / ("0" * 16)
    orphan.mkdir(parents=True, exist_ok=True)
    old = time.time() - age_s
    os.utime(orphan, (old, old))
    *steps, last = handlers.collect_garbage(pb.CollectGarbageRequest(older_s=older_s))
    assert not any(step.head.HasField("result") for step in steps)
    assert (last.head.result.files, last.head.result.logs) == (removed, 0)
    assert last.head.progress.step == "logs"
    assert orphan.exists() is not bool(removed)


def test_a_negative_age_is_refused(handlers: UpkeepHandlers) -> None:
    with pytest.raises(InvalidInput, match="older_s is -1, wanted 0 or more"):
        next(handlers.collect_garbage(pb.CollectGarbageRequest(older_s=-1)))


def test_lanes_are_given_up_only_by_a_caller_who_accepts_the_loss(tmp_path: Path) -> None:
    with owner_of(tmp_path / "store") as owner:
        for _ in range(2):
            append(owner, SPEC, 1)
        handlers = UpkeepHandlers(owner)
        recording = owner.store.recording("docs")
        lane = recording.lanes()[-1]
        recording.files.remove_tree(recording.directory / "lanes" / lane.name)
        with pytest.raises(InvalidInput, match="accept_loss=True"):
            handlers.give_up_lanes(pb.GiveUpLanesRequest(name=DOCS))
        found = handlers.give_up_lanes(pb.GiveUpLanesRequest(name=DOCS, accept_loss=True))
        (given_up,) = found.lanes
        assert (given_up.name, given_up.rows) == (lane.name, lane.rows)
        assert dict(given_up.cursors) == dict(lane.cursors)
        listed = handlers.list_lanes(pb.ListLanesRequest(name=DOCS)).lanes
        assert [(lane.name, lane.reason) for lane in listed if lane.reason == "lost"] == [
            (lane.name, "lost")
        ]
