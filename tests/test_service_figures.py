"""What ``benchmarks/service.py`` counts, on small inputs and one small server."""

import asyncio
import importlib.util
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from house_figures.figure import Figure
from service_figures import (
    abuses,
    atlas,
    durable,
    fuzz,
    kept_fuzz,
    memory,
    peers,
    queries,
    victim,
    wire,
)
from service_figures.messages import Known, Maker
from service_figures.served import Cpu, Served, batch, memory_bytes, scratch, served, spec
from service_figures.sizes import MIB, SMALL
from service_figures.streams import Stream, append_all

import isogloss
from isogloss.service.query.queries import Queries
from isogloss.service.wire.methods import METHODS
from isogloss.store import Store

SCRIPT = Path(wire.__file__).parent.parent / "service.py"
ALL = ("wire_tcp", "wire_unix", "wire_direct")


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with scratch() as root, served(root, "--no-workers") as found:
        yield found


@pytest.fixture(scope="module")
def job(server: Served) -> str:
    """A job that waits for ever, beside what the victim and its attackers use."""
    return victim._prepare(server)


# The wire.


def test_the_wire_is_counted_over_a_raw_socket_and_the_direct_lane_by_the_server_alone() -> None:
    costs = {
        "raw tcp": [0.5, 0.4, 9.0],
        "ours tcp": [1.5, 2.0, 2.5],
        "ours unix": [1.0, 1.0, 1.0],
        "ours direct": [3.0, 3.0, 3.0],
        "bare file in memory": [0.25, 0.25, 0.25],
        "bare grpc.aio tcp": [0.75, 0.75, 0.75],
        "bare grpc.aio unix": [0.75, 0.75, 0.75],
    }
    servers = {**costs, "ours direct": [0.005, 0.005, 0.1]}
    found = wire.figures(ALL, costs, servers)
    assert [found[name].value for name in ALL] == pytest.approx([4.0, 2.0, 0.01])
    assert [found[name].holds for name in ALL] == [False, True, True]
    told = found["wire_tcp"].peers
    assert told["ours tcp less the bare file"] == pytest.approx(3.5)
    assert told["flight tcp over raw tcp"] == wire.NO_FLIGHT
    with_flight = wire.figures(["wire_tcp"], {**costs, "flight tcp": [1.0, 1.0, 1.0]}, servers)
    assert with_flight["wire_tcp"].peers["flight tcp over raw tcp"] == 2.0


def test_a_batch_fills_its_size_but_for_less_than_a_row() -> None:
    for size in (96 << 10, MIB):
        encoded = sum(len(memoryview(piece).cast("B")) for piece in batch(size, "p", 7).encode())
        assert size - 2 * 4096 - 4096 < encoded <= size


def test_what_a_process_uses_is_seen_from_outside() -> None:
    used = Cpu(os.getpid())
    ends = time.process_time() + 0.05
    while time.process_time() < ends:
        pass
    assert used.used_s() >= 0.04
    assert 0 < memory_bytes(os.getpid()) <= memory_bytes(os.getpid(), "VmHWM")


def test_the_raw_peers_take_all_that_is_sent() -> None:
    with scratch() as root:
        for address in (f"unix:{root}/raw", "127.0.0.1:0"):
            listener, at = peers.serve_raw(address)
            threading.Thread(target=peers.answer_raw, args=(listener,), daemon=True).start()
            peers.send_raw(at, memoryview(bytes(70_000)), 3)
        kept, at = peers.serve_stock(f"unix:{root}/stock")
        peers.send_stock(at, np.zeros(1000, np.float32), 3)
        kept.stop(None).wait()


def test_a_raw_server_that_ends_early_is_an_error() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def leave() -> None:
        connection, _ = listener.accept()
        connection.recv(1)
        connection.close()

    threading.Thread(target=leave, daemon=True).start()
    with pytest.raises((RuntimeError, OSError)):
        peers.send_raw(f"127.0.0.1:{listener.getsockname()[1]}", memoryview(bytes(9)), 1)
    listener.close()


# The disk.


def test_streams_share_the_bytes_of_a_round() -> None:
    for name in durable.BARS:
        count, batches, size = durable.plan(name, 256 * MIB)
        assert count == int(name.removeprefix("durable_"))
        assert count * batches * size == 256 * MIB
        assert batches >= 8, "of fewer batches each, who is slowest is chance"
        assert durable.plan(name, MIB)[1] == 1


def test_the_groups_that_a_server_committed_are_all_that_was_sent(server: Served) -> None:
    with isogloss.connect(server.unix) as client:
        client.create_recording(spec("grouped"), ["a"])
        streams = [Stream(f"p-{number}") for number in range(3)]
        taken_s = asyncio.run(append_all(server.unix, "grouped", streams, batches=2, size=64 << 10))
        uid = client.recording("grouped").uid
    rows = 3 * 2 * batch(64 << 10, "p", 1).rows
    lanes = server.store / "recordings" / uid
    groups = [rows for log in lanes.rglob("commit.log") for rows in durable._commits(log)]
    assert sum(groups) == rows
    assert 4096 * rows <= sum(durable.committed(server.store))
    assert all(stream.durable == 2 for stream in streams)
    assert all(0 < stream.done_s - stream.first_s <= taken_s for stream in streams)


def test_bare_files_are_written_in_whole_and_removed(tmp_path: Path) -> None:
    assert peers.write_bare(tmp_path / "bare", [5000, 7, 1]) > 0
    assert peers.write_apart(tmp_path, 2, 3, 100) > 0
    assert list(tmp_path.iterdir()) == []


def test_streams_are_faster_than_the_bare_file_where_they_take_less_time() -> None:
    rounds = [(1.0, 0.5, 2.0), (2.0, 1.5, 2.0), (9.0, 1.0, 2.0)]
    figure = durable._figure("durable_16", rounds, [MIB, 3 * MIB], {"durable_16": 4.0})
    assert figure.value == pytest.approx(0.5)
    assert not figure.holds
    assert figure.peers["a file and a sync for each stream, over bare"] == 0.25
    assert figure.peers["groups"] == 2


def test_fairness_is_of_the_worst_number_of_streams_and_not_of_one_alone() -> None:
    rounds = {"durable_1": [9.0], "durable_16": [1.0, 2.0, 8.0], "durable_128": [1.5, 1.5, 1.5]}
    assert durable.fairness(rounds).value == 2.0


# Memory.


def test_memory_is_counted_over_what_an_idle_server_has_and_was_declared() -> None:
    seen = {"VmHWM": 330 * MIB, "VmRSS": 200 * MIB, "RssFile": 10 * MIB}
    figure = memory.figure(44 * MIB, seen, 256 * MIB, streams=128)
    assert (figure.value, figure.holds) == (pytest.approx(1.1), True)
    larger = {**seen, "VmHWM": 331 * MIB}
    assert not memory.figure(44 * MIB, larger, 256 * MIB, streams=128).holds
    few = memory.figure(44 * MIB, seen, 256 * MIB, streams=128, ended=["refused"] * 13)
    assert not few.holds, "a tenth of the streams did not press"
    assert few.peers["streams that ended"] == {"refused": 13}


def test_the_slow_disk_takes_as_long_as_its_bytes(tmp_path: Path) -> None:
    files = memory.SlowFiles(1e6)
    descriptor = files.create(tmp_path / "f")
    began = time.monotonic()
    files.write(descriptor, [b"x" * 30_000, memoryview(b"y" * 20_000)], 0)
    files.close(descriptor)
    assert time.monotonic() - began >= 0.05
    assert (tmp_path / "f").stat().st_size == 50_000


# The victim.


def test_the_worst_call_is_judged_against_its_own_bar() -> None:
    quiet = victim.Calls(get_ms=[1.0], append_ms=[40.0])
    abused = {
        "waits": victim.Calls(get_ms=[60.0], append_ms=[100.0]),
        "bodies": victim.Calls(get_ms=[2.0], append_ms=[119.0], refused=["get: UNAVAILABLE"]),
    }
    found = victim.figures(quiet, abused, {})
    assert (found["victim"].value, found["victim"].bar) == (60.0, 50.0)
    assert found["victim"].peers["worst"] == "GetRecording of waits"
    assert (found["victim_refused"].value, found["victim_refused"].holds) == (1, False)
    del abused["waits"]
    better = victim.figures(quiet, abused, {})["victim"]
    assert (better.value, better.bar, better.holds) == (119.0, 120.0, True)
    none = {"waits": victim.Calls(append_ms=[1.0], refused=["get: UNAVAILABLE"])}
    assert not victim.figures(quiet, none, {})["victim"].holds


def test_the_victim_calls_and_its_refusals_are_counted(server: Served, job: str) -> None:
    suffering = victim.Victim(server.unix)
    found = suffering.run(0.0)
    found.add(suffering.run(0.0))
    assert (len(found.get_ms), len(found.append_ms), found.refused) == (2, 2, [])
    suffering._request = b"\xff"
    refused = suffering.run(0.0)
    assert (refused.refused, len(refused.append_ms)) == (["get: INVALID_ARGUMENT"], 1)
    suffering.close()
    with isogloss.connect(server.unix) as client:
        assert client.recording("victim").rows == 3 * batch(96 << 10, "p", 1).rows


@pytest.mark.parametrize("kind", abuses.ABUSES)
def test_an_attacker_holds_what_it_got_or_is_refused(server: Served, job: str, kind: str) -> None:
    refused = {
        "repeated_names": "INVALID_ARGUMENT",
        "no_token": "UNAUTHENTICATED",
        "wrong_token": "UNAUTHENTICATED",
    }
    target = abuses.Target(server.unix, server.tcp, server.token, job)
    abuse = abuses.ABUSES[kind]

    async def status() -> str:
        address = target.tcp if abuse.is_tcp else target.unix
        async with grpc.aio.insecure_channel(address) as channel:
            try:
                attack = abuse.attack(target, channel, 0)
                return (await asyncio.wait_for(attack, 60 if kind in refused else 0.3)).name
            except TimeoutError:
                return "held"
            except grpc.aio.AioRpcError as error:
                return error.code().name

    assert asyncio.run(status()) == refused.get(kind, "held")


# Queries.


def test_queries_are_counted_over_an_empty_call_and_the_search() -> None:
    idle = {"query": [3.0, 4.0, 90.0], "null": [1.0, 1.0, 1.0], "faiss": [1.0, 2.0, 1.0]}
    found = queries.figures(idle, [10.0] * 99 + [70.0], 100.0)
    assert found["query_idle_p50"].value == 2.0
    assert 10.0 < (found["query_ingest_p99"].value or 0) < 70.0
    assert queries.figures(idle, [], 0.0)["query_ingest_p99"].value is None


def test_the_made_up_atlas_answers_with_each_feature_s_partner(tmp_path: Path) -> None:
    atlas.write_atlas(tmp_path / "store", dictionaries=2, features=96, segments=1024)
    rows = atlas.codes_of(1, 96, 50)
    assert (np.diff(rows, axis=1) > 0).all()
    renumbered = [np.random.default_rng([5, number]).permutation(96) for number in (0, 1)]
    with Store.open(tmp_path / "store") as store:
        for feature in (0, 17):
            own, partner = (int(of[feature]) for of in renumbered)
            first, second = atlas.names(2)
            hits = Queries(store).nearest(first, own, [second], count=3)
            assert hits[0].feature == partner
            assert hits[0].mutual


# The fuzzer.


def test_every_call_gets_messages_and_the_same_ones_for_the_same_number() -> None:
    known = Known(texts={"name": ["recordings/a"]}, names={"Recording": ["recordings/a"]})
    some_are_messages = some_are_none = 0
    for number, method in enumerate(METHODS.values()):
        for again in range(4):
            made = Maker(1, 100 * number + again, known).messages(method)
            assert made == Maker(1, 100 * number + again, known).messages(method)
            for raw in made:
                try:
                    method.request.FromString(raw)
                    some_are_messages += 1
                except DecodeError:
                    some_are_none += 1
    assert min(some_are_messages, some_are_none) > 10
    match = METHODS["/isogloss.v1.UniversalityService/CreateMatch"]
    assert Maker(1, 5, known).messages(match) != Maker(2, 5, known).messages(match)


def test_runs_of_the_same_code_and_seed_add_up_and_others_begin_again(tmp_path: Path) -> None:
    path = tmp_path / "results" / "fuzz.json"
    first = kept_fuzz.Found(code="c", seed=1, executions=600_000, runs=1, statuses={"OK": 600_000})
    fuzz.wrong(first, "INTERNAL", "a call " + "x" * 5000)
    kept_fuzz.save(kept_fuzz.load("c", 1, path).add(first), path)
    both = kept_fuzz.load("c", 1, path).add(replace(first, faults={}, examples=[], most_growth=7))
    assert (both.executions, both.runs, both.statuses) == (1_200_000, 2, {"OK": 1_200_000})
    assert (both.faults, both.most_growth, len(both.examples)) == ({"INTERNAL": 1}, 7, 1)
    assert len(both.examples[0]) < 2000
    assert kept_fuzz.load("d", 1, path).executions == kept_fuzz.load("c", 2, path).executions == 0
    with pytest.raises(ValueError, match="do not add up"):
        both.add(kept_fuzz.Found(code="d", seed=1))


def test_the_fuzzer_s_figure_holds_after_a_million_without_fault() -> None:
    many = kept_fuzz.Found(code="c", executions=kept_fuzz.WANTED)
    assert kept_fuzz.figure(many).holds
    assert not kept_fuzz.figure(replace(many, executions=kept_fuzz.WANTED - 1)).holds
    assert not kept_fuzz.figure(replace(many, faults={"hang": 1})).holds


def test_the_hash_of_the_code_changes_with_any_file(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "a.py").write_text("x = 1\n")
    before = kept_fuzz.hash_of_code(tmp_path)
    assert before == kept_fuzz.hash_of_code(tmp_path)
    (tmp_path / "service" / "a.py").write_text("x = 2\n")
    assert kept_fuzz.hash_of_code(tmp_path) != before


def test_what_lies_outside_the_store_is_seen(tmp_path: Path) -> None:
    for folder in ("store", "run", "home"):
        (tmp_path / folder).mkdir()
    before = fuzz.files_outside(tmp_path)
    mark = "another-mark"  # the fuzzer looks through the directories of tests too
    (tmp_path / "store" / mark).write_text("within")
    assert fuzz.files_outside(tmp_path) == before
    assert list(fuzz.marked(tmp_path, mark, tmp_path)) == []
    (tmp_path / "home" / f"a-{mark}").write_text("outside")
    assert {name for name, _, _ in fuzz.files_outside(tmp_path) - before} == {f"home/a-{mark}"}
    assert list(fuzz.marked(tmp_path, mark, tmp_path)) == [tmp_path / "home" / f"a-{mark}"]


def test_what_a_trial_run_finds_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[kept_fuzz.Found] = []

    def nothing(code: str, seed: int) -> kept_fuzz.Found:
        return kept_fuzz.Found(code=code, seed=seed)

    def three(code: str, seed: int, first: int, count: int) -> kept_fuzz.Found:
        return kept_fuzz.Found(code=code, seed=seed, executions=3)

    monkeypatch.setattr(kept_fuzz, "save", kept.append)
    monkeypatch.setattr(kept_fuzz, "load", nothing)
    monkeypatch.setattr(fuzz, "run", three)
    assert fuzz.fuzz(SMALL).peers["executions"] == 3
    assert kept == []
    fuzz.fuzz(replace(SMALL, are_kept=True))
    assert [found.executions for found in kept] == [3]


@pytest.mark.slow
def test_a_little_fuzzing_finds_nothing_wrong() -> None:
    found = fuzz.run("c", 3, 0, 200)
    assert (found.faults, found.examples) == ({}, [])
    assert sum(found.statuses.values()) == sum(found.calls.values()) == 200


# The script.


def test_figures_are_chosen_by_their_names_and_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # by its path: a bare `service` may be the room
    described = importlib.util.spec_from_file_location("service_benchmark", SCRIPT)
    assert described is not None
    assert described.loader is not None
    service = importlib.util.module_from_spec(described)
    described.loader.exec_module(service)
    with pytest.raises(SystemExit, match="no figure \\['wire_tpc'\\]"):
        list(service.measured(["wire_tpc"], SMALL))
    asked: list[list[str]] = []

    def counted(wanted: list[str], _: object) -> dict[str, Figure]:
        asked.append(wanted)
        return {name: Figure(figure=name, value=1.0, bar=1.0, unit="") for name in wanted}

    monkeypatch.setattr(wire, "wire", counted)
    monkeypatch.setattr(durable, "durable", counted)
    found = service.measured(["fairness", "wire_tcp", "wire_direct"], SMALL)
    assert [figure.figure for figure in found] == ["wire_tcp", "wire_direct", "fairness"]
    assert asked == [["wire_tcp", "wire_direct"], ["fairness"]]
