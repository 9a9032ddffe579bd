"""Batches that go past the server, to lanes on storage that client and server both see."""

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.service.serving import append_samples, server_on, start_server
from tests.service.transport.planned import Planned

import isogloss
from isogloss import Client
from isogloss.errors import (
    Conflict,
    DeadlineExceeded,
    Fenced,
    InvalidInput,
    InvalidName,
    IsoglossError,
    NotFound,
    NotPermitted,
    SequenceGap,
    ServerUnavailable,
    ShapeError,
    StorageError,
)
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.proto.v1 import recordings_pb2_grpc
from isogloss.service.cli import main
from isogloss.service.control.direct import DirectAccess
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.recording.direct_appender import (
    DirectAppender,
    find_storage,
    open_lane,
    storage,
)
from isogloss.service.transport.call import Ask
from isogloss.service.transport.over_grpc import GrpcTransport
from isogloss.service.transport.run import run as run_call
from isogloss.store import RecordingSpec, RowBatch, SiteSpec, Store
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SCRIPT = Path(__file__).with_name("run_direct.py")


def made(client: Client, name: str) -> RecordingSpec:
    spec = sample_spec(name)
    client.create_recording(spec, ["a", "b"])
    return spec


def check_rows(client: Client, spec: RecordingSpec, producer: str, count: int) -> None:
    """Check that a recording holds exactly the first batches of one producer, in order."""
    batches = [sample_batch(spec, producer, number) for number in range(1, count + 1)]
    for site in spec.sites:
        wanted = np.concatenate([batch.sites[site.name] for batch in batches])
        assert client.read(spec.recording, site.name).tobytes() == wanted.tobytes()
    columns = client.tokens(spec.recording)
    assert columns.token_id.tolist() == np.concatenate([b.token_id for b in batches]).tolist()


def test_rows_of_a_direct_stream_are_read_back_bit_equal(client: Client, name: str) -> None:
    spec = made(client, name)
    with client.stream(name, "p") as stream:
        assert stream.route.startswith("direct, lane ")
        append_samples(stream, spec, 30)
        stream.flush()
        assert stream.durable_sequence == 30
        check_rows(client, spec, "p", 30)
    (lane,) = client.lanes(name)
    assert (lane.direct, lane.sealed, lane.reason) == (True, True, "closed")
    with client.stream(name, "p") as again:
        assert again.next_sequence == 31
        append_samples(again, spec, 2)
    check_rows(client, spec, "p", 32)
    assert client.verify(name) == []


def test_a_producer_moves_between_the_server_and_direct_lanes(client: Client, name: str) -> None:
    spec = made(client, name)
    for turn in range(6):
        with client.stream(name, "p", direct=turn % 2 == 1) as stream:
            assert stream.next_sequence == 3 * turn + 1
            append_samples(stream, spec, 3)
    check_rows(client, spec, "p", 18)
    assert [lane.direct for lane in client.lanes(name)] == [False, True, False, True, False, True]
    # documents described in a direct lane are known to the server's next one
    first = sample_batch(spec, "p", 4)
    with client.stream(name, "p", direct=False) as stream:
        again = RowBatch(
            producer="p",
            sequence=19,
            sites=first.sites,
            token_id=first.token_id,
            document=first.document,
            position=first.position,
            span=first.span,
        )
        stream.write(again)
    assert client.verify(name) == []


def test_a_producer_has_one_way_at_a_time(client: Client, name: str) -> None:
    spec = made(client, name)
    with client.stream(name, "p", direct=True) as stream:
        append_samples(stream, spec, 1)
        for direct in (False, True, "auto"):
            with pytest.raises(Conflict, match="writing direct lane"):
                client.stream(name, "p", direct=direct)
        with pytest.raises(Conflict, match="open lane"):
            client.delete_recording(name, client.recording(name).etag)
    with client.stream(name, "p", direct=False) as stream:
        append_samples(stream, spec, 1)
    check_rows(client, spec, "p", 2)


def test_a_direct_stream_fences_an_older_one_through_the_server(client: Client, name: str) -> None:
    spec = made(client, name)
    older = client.appender(name, "p", reconnect_s=0.0)
    append_samples(older, spec, 2)
    older.flush()
    with client.stream(name, "p", direct=True) as stream:
        with pytest.raises((Fenced, Conflict)):
            append_samples(older, spec, 6)
        append_samples(stream, spec, 2)
    older.close(flush=False)
    check_rows(client, spec, "p", 4)


def test_ranks_write_direct_and_through_the_server_at_once(client: Client, name: str) -> None:
    spec = made(client, name)
    ways: dict[str, bool] = {"rank-0": True, "rank-1": True, "rank-2": False}
    failed: list[BaseException] = []

    def write(producer: str, direct: bool) -> None:
        try:
            with client.stream(name, producer, direct=direct) as stream:
                append_samples(stream, spec, 25)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=way) for way in ways.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    assert failed == []
    cursors: dict[str, int] = {}
    for lane in client.lanes(name):
        cursors |= lane.cursors
    assert cursors == dict.fromkeys(ways, 25)
    assert client.verify(name) == []


def test_what_does_not_fit_is_refused_before_it_is_taken(client: Client, name: str) -> None:
    spec = made(client, name)
    with client.stream(name, "p", direct=True) as stream:
        with pytest.raises(SequenceGap, match="next_sequence"):
            stream.write(sample_batch(spec, "p", 2))
        with pytest.raises(InvalidInput, match="of producer 'q'"):
            stream.write(sample_batch(spec, "q", 1))
        other = sample_spec(name, sites=(SiteSpec(name="else", width=3),))
        with pytest.raises(ShapeError):
            stream.write(sample_batch(other, "p", 1))
        assert stream.next_sequence == 1
        append_samples(stream, spec, 1)
    with pytest.raises(Conflict, match="open another"):
        stream.flush()
    with pytest.raises(InvalidInput, match="wanted True, False or 'auto'"):
        client.stream(name, "p", direct="perhaps")  # pyright: ignore[reportArgumentType]
    with pytest.raises(NotFound):
        client.stream("nothing-there", "p")
    check_rows(client, spec, "p", 1)


def test_a_batch_of_which_the_disk_knows_no_document_ends_the_stream(
    client: Client, name: str
) -> None:
    spec = made(client, name)
    batch = sample_batch(spec, "p", 1)
    bare = RowBatch(
        producer="p",
        sequence=1,
        sites=batch.sites,
        token_id=batch.token_id,
        document=batch.document,
        position=batch.position,
        span=batch.span,
    )
    stream = client.stream(name, "p", direct=True)
    stream.write(bare)
    with pytest.raises(InvalidInput, match="no batch described"):
        stream.flush()
    stream.close(flush=False)
    assert client.recording(name).rows == 0


def test_a_stream_goes_on_in_a_new_lane_when_its_lane_ends(client: Client, name: str) -> None:
    spec = made(client, name)
    stream = client.stream(name, "p", direct=True)
    assert isinstance(stream, DirectAppender)
    append_samples(stream, spec, 3)
    stream.flush()
    first = stream.lane
    log = stream._lane._log  # pyright: ignore[reportPrivateUsage] - what a failed disk does
    assert log is not None
    os.dup2(os.open(os.devnull, os.O_RDONLY), log)  # writing the log fails from now on
    append_samples(stream, spec, 3)
    stream.flush()
    assert stream.lane != first
    stream.close()
    check_rows(client, spec, "p", 6)
    assert client.verify(name) == []


def test_files_that_vanish_are_told_in_our_words_and_end_no_thread_silently(
    tmp_path: Path,
) -> None:
    root = tmp_path / "store"
    with server_on(root) as server, isogloss.connect(server.addresses[0]) as client:
        spec = made(client, "gone")
        (lanes,) = root.glob("recordings/*/lanes")
        with client.stream("gone", "p", direct=True, reconnect_s=0.0) as stream:
            shutil.rmtree(lanes)
            for entry in (lanes.parent / "manifest").iterdir():
                entry.unlink()
            append_samples(stream, spec, 1)
            with pytest.raises(IsoglossError, match="no place for a lane"):
                stream.flush(60)
            with pytest.raises(IsoglossError, match="no place for a lane"):
                stream.close(timeout_s=60)
        with pytest.raises(StorageError, match="no place for a lane"):
            client.stream("gone", "q", direct=True)


def test_a_new_lane_is_asked_for_with_pauses_and_given_up_at_the_limit(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = made(client, name)
    stream = client.stream(name, "p", direct=True, reconnect_s=0.5)
    assert isinstance(stream, DirectAppender)
    tries: list[int] = []

    def away() -> None:
        tries.append(1)
        raise ServerUnavailable("nobody answers")

    monkeypatch.setattr(stream, "_open", away)
    log = stream._lane._log  # pyright: ignore[reportPrivateUsage] - what a failed disk does
    assert log is not None
    os.dup2(os.open(os.devnull, os.O_RDONLY), log)
    append_samples(stream, spec, 1)
    with pytest.raises(ServerUnavailable, match="nobody answers"):
        stream.flush()
    stream.close(flush=False)
    assert 2 <= len(tries) <= 8, "pauses of 0.025 s and more leave time for no more tries"


def test_a_lane_whose_writer_hangs_is_ended_by_hand(client: Client, name: str) -> None:
    spec = made(client, name)
    hung = client.stream(name, "p", direct=True)
    assert isinstance(hung, DirectAppender)
    append_samples(hung, spec, 2)
    hung.flush()
    with pytest.raises(NotFound, match="no direct lane"):
        client.end_direct_lane(name, "00000009.0123456789abcdef")
    assert client.end_direct_lane(name, hung.lane) == {"p": 2}
    with client.stream(name, "p", direct=True) as stream:
        append_samples(stream, spec, 1)
    hung.write(sample_batch(spec, "p", 3))
    with pytest.raises(Fenced):
        hung.flush()
    hung.close(flush=False)
    check_rows(client, spec, "p", 3)


def test_without_the_storage_it_is_refused_or_goes_through_the_server_and_says_why(
    client: Client, name: str, tmp_path: Path
) -> None:
    spec = made(client, name)
    with pytest.raises(NotPermitted, match="does not show the storage"):
        client.stream(name, "p", direct=True, root=tmp_path)
    with client.stream(name, "p", direct="auto", root=tmp_path) as stream:
        assert stream.route.startswith("through ")
        assert f"not direct: {tmp_path} does not show the storage" in stream.route
        append_samples(stream, spec, 3)
    with client.stream(name, "p", direct=False) as stream:
        assert "not direct" not in stream.route
    check_rows(client, spec, "p", 3)
    planted = tmp_path / "direct.proof"
    planted.write_text("x" * 43)
    with pytest.raises(NotPermitted, match="so others can read it; wanted 0600"):
        client.stream(name, "p", direct=True, root=tmp_path)
    planted.chmod(0o600)
    with pytest.raises(NotPermitted, match="proof is not"):
        client.stream(name, "p", direct=True, root=tmp_path)
    with pytest.raises(NotPermitted, match="proof is not"):
        client.run(open_lane(name, ["p"], ""))


def test_a_store_without_locks_has_no_direct_lanes(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", fencing="create") as store:
        ingest = Ingest(store)
        access = DirectAccess(store, ingest)
        assert access.storage() == ""
        with pytest.raises(NotPermitted, match="proof is not"):
            access.open("a", ["p"], "")
        access.close()
        ingest.close()
    assert not (tmp_path / "store" / "direct.proof").exists()


def test_the_proof_is_for_the_stores_user_alone(tmp_path: Path) -> None:
    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        root = find_storage(client._transport, None, 10.0)  # pyright: ignore[reportPrivateUsage]
        proof = root / "direct.proof"
        assert proof.stat().st_mode & 0o777 == 0o600
    assert not proof.exists()


def test_a_write_waits_for_room_and_says_when_there_is_none(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = made(client, name)
    monkeypatch.setattr("isogloss.service.recording.direct_appender.WINDOW_BYTES", 1)
    stream = client.stream(name, "p", direct=True)
    assert isinstance(stream, DirectAppender)
    with stream._lane._lock:  # pyright: ignore[reportPrivateUsage] - as a slow disk holds it
        stream.write(sample_batch(spec, "p", 1))
        with pytest.raises(DeadlineExceeded, match="room"):
            stream.write(sample_batch(spec, "p", 2), timeout_s=0.1)
        assert stream.pending_bytes > 1
        assert stream.next_sequence == 2
    stream.flush()
    stream.close()
    check_rows(client, spec, "p", 1)


# Server and writer as processes of their own.


def test_a_direct_writer_outlives_its_server_and_a_new_one_sees_all(tmp_path: Path) -> None:
    store = tmp_path / "store"
    server = start_server(store)
    try:
        client = isogloss.connect(store)
        spec = made(client, "a")
        stream = client.stream("a", "p", direct=True)
        append_samples(stream, spec, 5)
        stream.flush()
        server.kill()
        append_samples(stream, spec, 5)
        stream.flush()
        server = start_server(store)
        with isogloss.connect(store) as again:
            check_rows(again, spec, "p", 10)
            append_samples(stream, spec, 5)
            stream.close()
            check_rows(again, spec, "p", 15)
            assert [lane.reason for lane in again.lanes("a")] == ["closed"]
        client.close()
    finally:
        server.kill()


def start_writer(store: Path, recording: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(store), recording], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_direct_writer_loses_nothing_and_its_producer_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(store), isogloss.connect(store) as client:
        spec = made(client, "a")
        acknowledged = 0
        for _ in range(2):
            writer = start_writer(store, "a")
            assert writer.stdout is not None
            with writer.stdout:
                for _ in range(4):
                    acknowledged = int(writer.stdout.readline())
                writer.send_signal(signal.SIGKILL)
                for line in writer.stdout:
                    acknowledged = int(line) if line.endswith("\n") else acknowledged
            assert writer.wait(200) == -signal.SIGKILL
        found = client.lanes("a")
        assert all(lane.direct and lane.sealed and not lane.damage for lane in found)
        attached = Store.attach(store)
        there = check_sample(attached.recording("a").reader(), {"p": acknowledged})
        attached.close()
        assert there["p"] >= acknowledged >= 4
        check_rows(client, spec, "p", there["p"])
        with client.stream("a", "p", direct=False) as stream:
            assert stream.next_sequence == there["p"] + 1


class Proxy:
    """Forwards one TCP port to another and counts the bytes on their way to it."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        self._wake.send(b"x")
        self._thread.join(200)
        for end in (self._server, self._wake, self._woken):
            end.close()

    def _run(self) -> None:
        others: dict[socket.socket, tuple[socket.socket, bool]] = {}
        with selectors.DefaultSelector() as ready:
            for end in (self._server, self._woken):
                ready.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    found = key.fileobj
                    assert isinstance(found, socket.socket)
                    if found is self._woken:
                        for end in others:
                            end.close()
                        return
                    if found is self._server:
                        caller = found.accept()[0]
                        called = socket.create_connection(("127.0.0.1", self._target))
                        others |= {caller: (called, True), called: (caller, False)}
                        for end in (caller, called):
                            ready.register(end, selectors.EVENT_READ)
                    elif found in others:
                        self._forward(found, others, ready)

    def _forward(
        self,
        source: socket.socket,
        others: dict[socket.socket, tuple[socket.socket, bool]],
        ready: selectors.BaseSelector,
    ) -> None:
        target, is_up = others[source]
        content = source.recv(1 << 16)
        if content:
            target.sendall(content)
            self.sent += len(content) * is_up
            return
        for end in (source, target):
            ready.unregister(end)
            del others[end]
            end.close()


@contextmanager
def proxied(store: Path) -> Generator[tuple[Client, Proxy]]:
    with server_on(store, "--listen", "127.0.0.1:0") as server:
        proxy = Proxy(int(server.addresses[0].rpartition(":")[2]))
        token = (store / "token").read_text().strip()
        try:
            with isogloss.connect(proxy.address, token=token) as client:
                yield client, proxy
        finally:
            proxy.close()


def test_no_activation_byte_crosses_the_server(tmp_path: Path) -> None:
    with proxied(tmp_path / "store") as (client, proxy):
        spec = sample_spec("wide", sites=(SiteSpec(name="s", width=4096),), has_spans=False)
        client.create_recording(spec, ["a"])
        batches = [sample_batch(spec, "p", number, rows=64) for number in range(1, 9)]
        payload = sum(batch.sites["s"].nbytes for batch in batches)
        counts: dict[bool, int] = {}
        for direct, some in ((True, batches[:4]), (False, batches[4:])):
            before = proxy.sent
            with client.stream("wide", "p", direct=direct) as stream:
                for batch in some:
                    stream.write(batch)
            counts[direct] = proxy.sent - before
        assert counts[False] > payload // 2
        assert counts[True] < 10_000
        rows = np.concatenate([batch.sites["s"] for batch in batches])
        assert client.read("wide", "s").tobytes() == rows.tobytes()


# The command line.


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    def run(*words: str, store: Path) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["isogloss", *words, "--store", str(store)])
        monkeypatch.setenv("COLUMNS", "120")
        try:
            main.main()
        except SystemExit as ended:
            assert ended.code in (0, None)  # noqa: PT017 - typer ends the process in good order
        said = capsys.readouterr()
        return said.out, said.err

    return run


def test_lanes_are_listed_and_a_hung_one_is_ended(
    served_store: Path, remote_client: Client, name: str, run: Callable[..., tuple[str, str]]
) -> None:
    spec = made(remote_client, name)
    with remote_client.stream(name, "rank-0", direct=False) as stream:
        append_samples(stream, spec, 1)
    hung = remote_client.stream(name, "rank-1", direct=True)
    assert isinstance(hung, DirectAppender)
    append_samples(hung, spec, 2)
    hung.flush()
    out, _ = run("lanes", name, store=served_store)
    lines = out.splitlines()
    assert lines[0].split() == ["lane", "rows", "state", "written", "producers"]
    assert "by owner" in lines[1]
    assert lines[1].split()[-1] == "rank-0:1"
    assert "open" in lines[2]
    assert "direct" in lines[2]
    out, err = run("lanes", name, "--end", hung.lane, "--json", store=served_store)
    assert f"ended {hung.lane}" in err
    assert [lane["direct"] for lane in json.loads(out)] == [False, True]
    assert json.loads(out)[1]["sealed"] is True
    append_samples(hung, spec, 1)
    with pytest.raises(Fenced):
        hung.flush()
    hung.close(flush=False)


class _Greedy(recordings_pb2_grpc.RecordingServiceServicer):
    """A server that would like to read files of its clients."""

    def __init__(self, root: Path, named: str, spec: RecordingSpec) -> None:
        self.root, self.named, self.spec = root, named, spec
        self.received: list[bytes] = []

    def GetStorage(
        self, request: pb.GetStorageRequest, context: grpc.ServicerContext
    ) -> pb.Storage:
        self.received.append(request.SerializeToString())
        return pb.Storage(root=str(self.root), proof_file=self.named)

    def OpenDirectLane(
        self, request: pb.OpenDirectLaneRequest, context: grpc.ServicerContext
    ) -> pb.DirectLane:
        self.received.append(request.SerializeToString())
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")


@pytest.mark.parametrize("named", ["id_secret", "direct.proof", "../id_secret", ""])
@pytest.mark.parametrize("kind", ["file", "link", "long", "open to others", "right shape"])
def test_a_server_gets_nothing_of_a_file_that_it_names(
    tmp_path: Path, named: str, kind: str
) -> None:
    secret = "a-private-key_" + "x" * (29 if kind != "long" else 300)
    (tmp_path / "id_secret").write_text(secret)
    root = tmp_path / "root"
    root.mkdir()
    (root / "id_secret").write_text(secret)
    planted = root / "direct.proof"
    if kind == "link":
        planted.symlink_to("id_secret")
    else:
        planted.write_text(secret if kind != "file" else f"{secret[:-1]}.")
        planted.chmod(0o644 if kind == "open to others" else 0o600)
    spec = sample_spec("docs")
    greedy = _Greedy(root, named, spec)
    server = grpc.server(ThreadPoolExecutor(2))
    recordings_pb2_grpc.add_RecordingServiceServicer_to_server(greedy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        transport = GrpcTransport(f"127.0.0.1:{port}")
        try:
            with pytest.raises(NotPermitted):
                DirectAppender(transport, spec, "p", timeout_s=10.0)
        finally:
            transport.close()
    finally:
        server.stop(0).wait(10)
    asked = [b"".join(greedy.received)]
    assert len(greedy.received) == (2 if kind == "right shape" else 1)
    for part in (secret, secret[:14], secret[-14:]):
        assert all(part.encode() not in said for said in asked)


def test_a_lane_is_asked_for_by_the_name_of_its_recording() -> None:
    step = next(open_lane("docs", ["p", "q"], "proof"))
    assert isinstance(step, Ask)
    assert step.request == pb.OpenDirectLaneRequest(
        name="recordings/docs", producers=["p", "q"], proof="proof"
    )
    answer = pb.DirectLane(lane="l1", ticket=b"ticket")
    assert run_call(Planned(answer), open_lane("docs", ["p"], ""), 1) == b"ticket"
    with pytest.raises(InvalidName, match="'Docs'"):
        open_lane("Docs", [], "")


def test_the_storage_is_what_the_owner_says() -> None:
    answer = pb.Storage(root="/r", proof_file="f")
    assert run_call(Planned(answer), storage(), 1) == answer
