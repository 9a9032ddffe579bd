"""Upkeep over both transports: lanes, verifying, compacting, compressing, garbage, deleting."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from tests.service.serving import Server, append_samples

import isogloss
from isogloss import Client
from isogloss.errors import Conflict, InvalidInput, NotFound, ServerUnavailable, UnknownSite
from isogloss.service.control.owner import Owner
from isogloss.service.control.work import ReportProgress
from isogloss.service.values.upkeep import LaneInfo, UpkeepProgress
from isogloss.store import RecordingSpec, Store
from isogloss.store.testing import sample_spec

T = TypeVar("T")

VOCABULARY = [f"token-{i}" for i in range(1000)]


def filled(client: Client, name: str, *, lanes: int = 1, batches: int = 5) -> RecordingSpec:
    """Record batches in lanes that are sealed one after the other."""
    spec = sample_spec(name)
    client.create_recording(spec, VOCABULARY)
    for _ in range(lanes):
        with client.appender(name, "rank-0") as appender:
            append_samples(appender, spec, batches)
        client.compress(name)  # seals the lane, which no producer uses
    return spec


def append_more(client: Client, name: str) -> None:
    """Append to a recording whose lane then stays open for a while."""
    with client.appender(name, "rank-0") as appender:
        append_samples(appender, client.recording(name).spec, 2)


def everything(client: Client, name: str) -> list[np.ndarray]:
    """Read all sites and token ids of a recording."""
    sites = client.recording(name).spec.sites
    return [*(client.read(name, site.name) for site in sites), client.tokens(name).token_id]


def once_free(call: Callable[[], T]) -> T:
    """Call until nothing else works on the recording."""
    while True:
        try:
            return call()
        except Conflict:
            time.sleep(0.02)


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# Lanes.


def test_lanes_say_what_was_committed_by_whom_and_how_it_is_stored(
    client: Client, name: str
) -> None:
    spec = filled(client, name)
    append_more(client, name)
    first, second = client.lanes(name)
    assert sum(lane.rows for lane in (first, second)) == client.recording(name).rows
    assert [(lane.sealed, lane.reason) for lane in (first, second)] == [
        (True, "closed"),
        (False, ""),
    ]
    assert [dict(lane.cursors) for lane in (first, second)] == [{"rank-0": 5}, {"rank-0": 7}]
    assert [lane.tiers for lane in (first, second)] == [("compressed",), ("live",)]
    for lane in (first, second):
        assert lane.damage == ""
        assert [found.site for found in lane.sites] == [site.name for site in spec.sites]
        assert lane.stored_bytes > sum(found.stored_bytes for found in lane.sites) > 0


def test_lanes_are_listed_over_pages(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(client, name, lanes=3, batches=1)
    whole = client.lanes(name)
    monkeypatch.setattr("isogloss.service.client.upkeep.MAX_PAGE", 2)
    assert len(whole) == 3
    assert client.lanes(name) == whole


# Verifying.


def test_a_sound_recording_has_no_problems_and_says_how_far_it_is(
    client: Client, name: str
) -> None:
    spec = filled(client, name, lanes=2)
    seen: list[UpkeepProgress] = []
    assert client.verify(name, on_progress=seen.append) == []
    rows = client.recording(name).rows
    wanted = rows * sum(site.row_bytes for site in spec.sites)
    assert (seen[-1].done, seen[-1].total) == (wanted, wanted)
    assert seen[-1].step == client.lanes(name)[-1].name


def test_a_flipped_bit_is_named_with_its_lane(
    client: Client, name: str, request: pytest.FixtureRequest
) -> None:
    spec = filled(client, name)
    append_more(client, name)
    root = _root(client, request)
    lane = client.lanes(name)[1]
    shard = root / "recordings" / client.recording(name).uid / "lanes" / lane.name / "site-1/c/0/0"
    with shard.open("r+b") as file:
        file.seek(4096 + 5)
        byte = file.read(1)[0]
        file.seek(4096 + 5)
        file.write(bytes([byte ^ 1]))
    (problem,) = client.verify(name)
    assert (problem.recording, problem.lane) == (name, lane.name)
    assert spec.sites[1].name in problem.message
    assert "do not match their checksum" in problem.message


def _root(client: Client, request: pytest.FixtureRequest) -> Path:
    """Return the directory of a client's store."""
    if client.is_local:
        return Path(client.address)
    return request.getfixturevalue("served_store")


# Rewriting.


def test_compressing_keeps_every_bit_and_says_what_it_saved(client: Client, name: str) -> None:
    spec = sample_spec(name)
    client.create_recording(spec, VOCABULARY)
    append_more(client, name)
    before = everything(client, name)
    done = client.compress(name)
    assert done.sites == len(spec.sites)
    assert done.bytes_after == client.lanes(name)[0].stored_bytes < done.bytes_before
    assert same(everything(client, name), before)
    assert client.compress(name).sites == 0
    append_more(client, name)
    assert client.recording(name).rows > len(before[0])


def test_compacting_keeps_rows_and_revisions(client: Client, name: str) -> None:
    spec = filled(client, name, lanes=3)
    before, revision = everything(client, name), client.recording(name).revision
    done = client.compact(name)
    rows = client.recording(name).rows
    assert (done.lanes, done.into, done.rows) == (3, 1, rows)
    assert [lane.rows for lane in client.lanes(name)] == [rows]
    assert same(everything(client, name), before)
    site = spec.sites[0].name
    np.testing.assert_array_equal(client.read(name, site, revision=revision), before[0])
    assert client.verify(name) == []
    assert client.compact(name).lanes == 0
    with pytest.raises(InvalidInput, match="max_rows"):
        client.compact(name, max_rows=-1)


def test_quantising_must_be_meant_and_says_its_error(client: Client, name: str) -> None:
    spec = sample_spec(name)
    client.create_recording(spec, VOCABULARY)
    append_more(client, name)
    before = everything(client, name)
    with pytest.raises(InvalidInput, match="for good: pass accept_loss=True"):
        client.quantise(name, accept_loss=False)
    with pytest.raises(UnknownSite, match=r"layer\.2"):
        client.quantise(name, ["layer.9"], accept_loss=True)
    with pytest.raises(InvalidInput, match="0 sites"):
        client.quantise(name, [], accept_loss=True)
    assert same(everything(client, name), before)
    done = client.quantise(name, ["layer.2"], accept_loss=True)
    assert list(done.errors) == ["layer.2"]
    assert done.bytes_after < done.bytes_before
    exact, rounded = (site.name for site in spec.sites)
    np.testing.assert_array_equal(client.read(name, exact), before[0])
    wide, now = before[1].astype(np.float64), client.read(name, rounded).astype(np.float64)
    error = done.errors["layer.2"]
    assert 0 < error.relative_rms < 0.02
    assert error.max_abs == pytest.approx(np.abs(now - wide).max(), rel=1e-6)
    assert error.relative_rms == pytest.approx(
        np.linalg.norm(now - wide) / np.linalg.norm(wide), rel=1e-6
    )
    (lane,) = client.lanes(name)
    assert [(found.tier, found.error) for found in lane.sites] == [
        ("sealed", None),
        ("quantised", error),
    ]
    assert lane.is_lossy
    assert client.verify(name) == []


def test_what_on_progress_raises_ends_the_call_and_frees_the_recording(
    client: Client, name: str
) -> None:
    filled(client, name)

    def refuse(at: UpkeepProgress) -> None:
        raise ZeroDivisionError(at.step)

    with pytest.raises(ZeroDivisionError):
        client.verify(name, on_progress=refuse)
    assert once_free(lambda: client.verify(name)) == []


def test_care_of_what_is_not_there_is_not_found(client: Client) -> None:
    for call in (client.lanes, client.verify, client.compact, client.compress):
        with pytest.raises(NotFound, match="nothing-there"):
            call("nothing-there")


def test_the_asyncio_client_does_the_same(
    remote_client: Client, served_store: Path, name: str
) -> None:
    client = remote_client
    filled(client, name, lanes=2)

    async def all_of_it() -> tuple[list[LaneInfo], list[UpkeepProgress], int]:
        seen: list[UpkeepProgress] = []
        async with await isogloss.connect_async(served_store) as found:
            assert await found.verify(name, on_progress=seen.append) == []
            assert (await found.compress(name)).sites == 0
            compacted = await found.compact(name)
            garbage = await found.collect_garbage()
            assert garbage.files >= 0
            return await found.lanes(name), seen, compacted.lanes

    lanes, seen, joined = asyncio.run(all_of_it())
    assert joined == 2
    assert lanes == client.lanes(name)
    assert seen[-1].done == seen[-1].total > 0


# One at a time, in threads that end.


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    with Owner(Store.open(tmp_path / "store"), run_workers=False) as opened:
        yield opened


def _endless(begun: threading.Event, ended: threading.Event) -> Callable[[ReportProgress], None]:
    def work(report: ReportProgress) -> None:
        begun.set()
        try:
            while True:
                report("step", 1, 2)
                time.sleep(0.005)
        finally:
            ended.set()

    return work


def test_a_recording_has_one_upkeep_at_a_time(owner: Owner) -> None:
    spec = sample_spec("busy")
    owner.store.create_recording(spec, VOCABULARY)
    recording = owner.store.recording("busy")
    with (
        owner.upkeep.alone(recording, "moved"),
        pytest.raises(Conflict, match="'busy' is being moved: wait"),
    ):
        next(owner.upkeep.verify("busy"))
    with owner.upkeep.alone(recording, "moved"), pytest.raises(Conflict, match="being moved"):
        next(owner.upkeep.collect_garbage(0))
    with owner.upkeep.alone(recording, "moved"), pytest.raises(Conflict, match="being moved"):
        owner.recordings.delete("busy", recording.etag)
    assert [step.result for step in owner.upkeep.verify("busy")][-1] == []
    owner.recordings.delete("busy", recording.etag)


def test_leaving_ends_the_work_between_two_steps(owner: Owner) -> None:
    begun, ended = threading.Event(), threading.Event()
    steps = owner.upkeep._run({"uid": "recording 'x'"}, "tried", _endless(begun, ended))
    assert next(steps).progress == UpkeepProgress(step="step", done=1, total=2)
    assert begun.is_set()
    assert not ended.is_set()
    with pytest.raises(Conflict, match="being tried"):
        next(owner.upkeep._run({"uid": "recording 'x'"}, "tried", _endless(begun, ended)))
    steps.close()  # pyright: ignore[reportAttributeAccessIssue] - it is a generator
    assert ended.wait(60)


def test_closing_the_owner_ends_the_work_and_says_so(owner: Owner) -> None:
    begun, ended = threading.Event(), threading.Event()
    steps = owner.upkeep._run({"uid": "recording 'x'"}, "tried", _endless(begun, ended))
    next(steps)
    owner.upkeep.close()
    assert ended.is_set()
    with pytest.raises(ServerUnavailable, match="being closed"):
        list(steps)
    with pytest.raises(ServerUnavailable, match="being closed"):
        next(owner.upkeep.collect_garbage(0))


def test_an_error_in_the_thread_is_raised_to_the_caller(owner: Owner) -> None:
    def fail(report: ReportProgress) -> None:
        report("step", 0, 0)
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="a defect"):
        list(owner.upkeep._run({"uid": "recording 'x'"}, "tried", fail))
    assert [step.result for step in owner.upkeep._run({"uid": "x"}, "tried", lambda _: 5)][-1] == 5


# A server whose disk is slow.


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file without which the slow server holds the first check."""
    return tmp_path / "open"


@pytest.fixture
def slow_server(tmp_path: Path, gate: Path) -> Iterator[Server]:
    store = tmp_path / "store"
    with isogloss.connect(store, run_workers=False) as client:
        # a commit a batch, and not compressed: a check then has many steps
        client.create_recording(sample_spec("slow"), VOCABULARY)
        with client.appender("slow", "rank-0") as appender:
            for _ in range(60):
                append_samples(appender, sample_spec("slow"), 1)
                appender.flush()
        filled(client, "other", batches=1)
    script = Path(__file__).with_name("slow_store.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(store), str(gate), str(os.getpid())],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    server = Server(process, json.loads(process.stdout.readline()))
    yield server
    server.kill()


def test_a_long_check_blocks_neither_appends_nor_other_calls_and_ends_when_left(
    slow_server: Server, gate: Path
) -> None:
    address = slow_server.addresses[0]
    begun, leave = threading.Event(), threading.Event()
    seen: list[UpkeepProgress] = []

    class Left(Exception):
        pass

    def on_progress(at: UpkeepProgress) -> None:
        seen.append(at)
        if at.done:
            begun.set()
        if leave.is_set():
            raise Left

    def check() -> None:
        with isogloss.connect(address) as client, pytest.raises(Left):
            client.verify("slow", on_progress=on_progress)

    thread = threading.Thread(target=check)
    thread.start()
    try:
        with isogloss.connect(address) as client:
            assert begun.wait(120)
            with pytest.raises(Conflict, match="'slow' is being verified"):
                client.compress("slow")
            with pytest.raises(Conflict, match="'slow' is being verified"):
                client.delete_recording("slow", client.recording("slow").etag)
            rows = client.recording("slow").rows
            append_more(client, "slow")
            assert client.recording("slow").rows > rows
            assert client.verify("other") == []
            leave.set()
            thread.join(120)
            assert not thread.is_alive()
            gate.touch()
            assert seen[-1].done < seen[-1].total, "the check was over before it was left"
            etag = client.recording("other").etag
            once_free(lambda: client.compact("slow"))
            client.delete_recording("other", etag)
            with pytest.raises(NotFound):
                client.recording("other")
    finally:
        leave.set()
        gate.touch()
        thread.join(120)


def test_a_server_that_stops_ends_a_check_and_says_so(slow_server: Server, gate: Path) -> None:
    begun = threading.Event()
    told: list[ServerUnavailable] = []

    def check() -> None:
        with isogloss.connect(slow_server.addresses[0]) as client:
            try:
                client.verify("slow", on_progress=lambda _: begun.set())
            except ServerUnavailable as error:
                told.append(error)

    thread = threading.Thread(target=check)
    thread.start()
    assert begun.wait(120)
    slow_server.process.send_signal(signal.SIGTERM)
    gate.touch()
    assert slow_server.process.wait(120) == 0
    thread.join(120)
    assert len(told) == 1
