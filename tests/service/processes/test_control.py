"""A real server process: killed, drained, spoken to by strangers, short of disk."""

import json
import os
import random
import resource
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tests.service.serving import append_samples, self_signed, server_on, start_server
from typer.testing import CliRunner

import isogloss
from isogloss.errors import (
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    ResourceExhausted,
    ServerUnavailable,
    StorageError,
    StoreOwned,
)
from isogloss.proto.v1 import recordings_pb2, recordings_pb2_grpc
from isogloss.service.cli.main import app
from isogloss.service.processes.config import ServerConfig
from isogloss.service.processes.control import serve
from isogloss.service.recording.appender import Appender
from isogloss.service.values.results import FeatureRef
from isogloss.service.wire.callers import CALLER_KEY
from isogloss.service.wire.errors import DETAILS_KEY
from isogloss.service.wire.methods import SERVICES
from isogloss.store import SiteSpec, Store
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()


def reader_of(store: Path):
    return Store.attach(store).recording("sample").reader()


# Death and life.


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_again_and_again_the_server_loses_and_repeats_no_acknowledged_row(
    tmp_path: Path, kills: int
) -> None:
    store = tmp_path / "store"
    address = f"unix:{tmp_path}/run/s"
    server = start_server(store, "--listen", address)
    acknowledged = {"p0": 0, "p1": 0}
    stop = threading.Event()
    failures: list[BaseException] = []
    client = isogloss.connect(address)
    client.create_recording(SPEC, ["a"])

    appenders = {name: client.appender("sample", name) for name in acknowledged}

    def produce(name: str) -> None:
        try:
            with appenders[name] as appender:
                while not stop.is_set():
                    append_samples(appender, SPEC, 3)
                    before = acknowledged[name]
                    acknowledged[name] = appender.durable_sequence
                    assert acknowledged[name] >= before
                    time.sleep(0.02)
                appender.flush()
                acknowledged[name] = appender.durable_sequence
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=produce, args=(name,)) for name in acknowledged]
    try:
        for thread in threads:
            thread.start()
        chance = random.Random(7)
        for kill in range(kills):
            before = dict(acknowledged)
            while any(acknowledged[name] <= before[name] + 3 for name in before):
                assert failures == [], f"a producer ended: {acknowledged}"
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.2))
            promised = dict(acknowledged)
            server.kill()
            if kill % 10 == 0:  # the check reads everything there is
                check_sample(reader_of(store), promised)
            server = start_server(store, "--listen", address)
        time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        client.close()
        server.kill()
    assert failures == []
    assert min(acknowledged.values()) > 3 * kills
    assert check_sample(reader_of(store), acknowledged) == acknowledged


def test_told_to_end_the_server_finishes_what_it_took(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(store) as server:
        client = isogloss.connect(store)
        client.create_recording(SPEC, ["a"])
        appender = client.appender("sample", "p", reconnect_s=0)
        append_samples(appender, SPEC, 20)
        assert server.terminate() == 0
        with pytest.raises(ServerUnavailable):
            client.recordings()
        appender.close(flush=False)
        client.close()
    assert not (store / "run" / "socket").exists()
    found = check_sample(reader_of(store), {"p": appender.durable_sequence})
    assert found.get("p", 0) >= appender.durable_sequence


def test_an_appender_outlives_a_restart_in_good_order(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(store) as server:
        client = isogloss.connect(store)
        client.create_recording(SPEC, ["a"])
        with client.appender("sample", "p") as appender:
            append_samples(appender, SPEC, 5)
            appender.flush()
            server.terminate()
            with server_on(store):
                append_samples(appender, SPEC, 5)
                appender.flush(30)
                assert appender.durable_sequence == 10
                appender.close()
        client.close()
    assert check_sample(reader_of(store), {"p": 10}) == {"p": 10}


def test_a_full_disk_is_told_to_the_producer_and_costs_nothing_acknowledged(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    with server_on(store, "--full-after", "150"), isogloss.connect(store) as client:
        client.create_recording(SPEC, ["a"])
        appender = client.appender("sample", "p", reconnect_s=1)
        with pytest.raises(StorageError) as caught:
            append_until_refused(appender)
        assert "space" in str(caught.value).lower() or "full" in str(caught.value).lower()
        promised = appender.durable_sequence
        assert promised > 0
        appender.close(flush=False)
        assert client.recording("sample").rows > 0
    assert check_sample(reader_of(store), {"p": promised})["p"] >= promised


def health_of(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=60)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(
        health_pb2.HealthCheckResponse.FromString(answer).status
    )


def test_a_server_that_cannot_record_says_so_when_asked_for_its_health(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(store, "--full-after", "100") as server, isogloss.connect(store) as client:
        client.create_recording(SPEC, ["a"])
        assert health_of(server.addresses[0]) == "SERVING"
        appender = client.appender("sample", "p", reconnect_s=1)
        with pytest.raises(StorageError):
            append_until_refused(appender)
        appender.close(flush=False)
        deadline = time.monotonic() + 60
        while health_of(server.addresses[0]) == "SERVING":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.recording("sample").rows > 0


def append_until_refused(appender: Appender) -> None:
    for _ in range(200):
        append_samples(appender, SPEC, 1)
        appender.flush(20)


def test_a_producer_of_more_sites_than_files_may_be_open_is_told_at_once(tmp_path: Path) -> None:
    sites = tuple(SiteSpec(name=f"s{i}", width=2, dtype="float32") for i in range(200))
    spec = sample_spec("wide", sites=sites)
    with server_on(tmp_path / "store") as server, isogloss.connect(server.addresses[0]) as client:
        client.create_recording(spec, ["a"])
        pid = server.process.pid
        few = len(list(Path(f"/proc/{pid}/fd").iterdir())) + 100
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, few))
        stream = client.stream("wide", "p", direct=False, reconnect_s=3600.0)
        stream.write(sample_batch(spec, "p", 1))
        with pytest.raises(ResourceExhausted, match="200 sites needs 201 open files"):
            stream.flush(60)
        stream.close(flush=False)
        assert client.recording("wide").rows == 0  # the server goes on
        narrow = sample_spec("narrow")
        client.create_recording(narrow, ["a"])
        with client.stream("narrow", "p", direct=False) as other:
            append_samples(other, narrow, 3)
        assert client.recording("narrow").rows > 0


def test_without_a_server_calls_and_streams_say_that_it_is_gone(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(store) as server:
        client = isogloss.connect(store)
        client.create_recording(SPEC, ["a"])
        appender = client.appender("sample", "p", reconnect_s=0.2)
        server.kill()
        for call in (
            client.recordings,
            lambda: client.read("sample", "layer.2"),
            lambda: append_samples(appender, SPEC, 1) or appender.flush(20),
            lambda: client.appender("sample", "q"),
        ):
            with pytest.raises(ServerUnavailable, match=r"isogloss serve|connect again|open it"):
                call()
        appender.close(flush=False)
        client.close()


# What it is made of.


def loaded_libraries(pid: int) -> set[str]:
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {name for name in ("libtorch", "faiss", "llvmlite", "triton") if name in maps}


def test_the_server_process_loads_neither_torch_nor_faiss_and_its_query_process_may_die(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    with server_on(store) as server, isogloss.connect(store) as client:
        spec = client.create_recording(SPEC, ["a"]).spec
        with client.appender("sample", "p") as appender:
            append_samples(appender, spec, 3)
        client.statistics("sample", "layer.2")

        def ask() -> None:
            with pytest.raises(NotFound, match="nothing"):
                client.encode("nothing", np.zeros((1, 4), np.float32))
            with pytest.raises(NotFound, match="nothing"):
                client.feature(FeatureRef(dictionary="nothing", feature=0))

        def children() -> list[int]:
            found = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
            return [int(pid) for pid in found.read_text().split()]

        ask()
        [child] = children()
        os.kill(child, 9)
        ask()
        [child] = children()
        assert loaded_libraries(server.process.pid) == set()
        server.kill()
        while Path(f"/proc/{child}").exists() and "zombie" not in _state(child):
            time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return "zombie"


# Addresses, tokens, TLS.


def test_a_client_that_fills_the_limit_on_producers_does_not_keep_others_out(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    places = ("--listen", f"unix:{tmp_path / 'run' / 's'}", "--listen", "127.0.0.1:0")
    with (
        server_on(store, "--sessions", "4", *places) as server,
        isogloss.connect(server.addresses[0]) as greedy,
        isogloss.connect(server.addresses[1], token=(store / "token").read_text().strip()) as other,
    ):
        greedy.create_recording(SPEC, ["a"])
        held = [greedy.stream("sample", f"p{number}", direct=False) for number in range(4)]
        with pytest.raises(ResourceExhausted, match="4 of them from unix"):
            greedy.stream("sample", "p4", direct=False)
        with other.stream("sample", "q", direct=False) as stream:
            append_samples(stream, SPEC, 3)
            stream.flush(60)
            assert stream.durable_sequence == 3
        for appender in held[1:]:  # the oldest made room
            append_samples(appender, SPEC, 1)
            appender.flush(60)
            appender.close()
        append_samples(held[0], SPEC, 1)  # and goes on once there is room again
        held[0].flush(60)
        held[0].close()


def test_processes_that_share_a_socket_share_its_producers(tmp_path: Path) -> None:
    with (
        server_on(tmp_path / "store", "--sessions", "4") as server,
        isogloss.connect(server.addresses[0]) as greedy,
        grpc.insecure_channel(server.addresses[0]) as channel,
    ):
        greedy.create_recording(SPEC, ["a"])
        held = [greedy.stream("sample", f"p{number}", direct=False) for number in range(4)]

        def open_as(name: str, producer: str) -> object:
            first = recordings_pb2.AppendRequest(header=header("sample", producer))
            stub = recordings_pb2_grpc.RecordingServiceStub(channel)
            call = stub.Append(
                chain([first], iter(gone.wait, True)),  # and then nothing for a while
                metadata=((CALLER_KEY, name),),
                timeout=120,
            )
            calls.append(call)  # it is cancelled when it is garbage
            return next(call)

        calls: list[object] = []
        gone = threading.Event()
        try:
            for number in range(2):
                open_as("1-other", f"other{number}")
            with pytest.raises(grpc.RpcError, match="4 of them from unix"):
                open_as("1-other", "other2")
        finally:
            gone.set()
        for appender in held:
            appender.close(flush=False)


def test_tcp_asks_for_the_token_that_the_store_keeps(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(
        store, "--listen", "127.0.0.1:0", "--listen", f"unix:{tmp_path}/run/s"
    ) as server:
        tcp, unix = server.addresses
        file = store / "token"
        assert file.stat().st_mode & 0o777 == 0o600
        for token in (None, "wrong-token-of-some-length"):
            with pytest.raises(NotAuthenticated, match="token"):
                isogloss.connect(tcp, token=token)
        with isogloss.connect(tcp, token=file.read_text().strip()) as client:
            client.create_recording(SPEC, ["a"])
            with client.appender("sample", "p") as appender:
                append_samples(appender, SPEC, 4)
            assert client.read("sample", "layer.2").shape[1] == 6
        with isogloss.connect(unix) as client:
            assert client.recording("sample").rows > 0
        with isogloss.connect(store) as client:
            assert client.address == tcp
        channel = grpc.insecure_channel(tcp)
        stub = recordings_pb2_grpc.RecordingServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Append(iter([recordings_pb2.AppendRequest()])))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = check(health_pb2.HealthCheckRequest(service=SERVICES[0]))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        channel.close()


def test_other_machines_are_only_let_in_with_tls(tmp_path: Path) -> None:
    for address in ("0.0.0.0:0", "[::]:0", "example.org:80"):
        with pytest.raises(NotPermitted, match="TLS"):
            serve(tmp_path / "store", ServerConfig(listen=(address,)))
    assert not (tmp_path / "store").exists()


def test_a_socket_in_an_open_directory_is_refused(tmp_path: Path) -> None:
    open_directory = tmp_path / "open"
    open_directory.mkdir(mode=0o755)
    with pytest.raises(NotPermitted, match="chmod 700"):
        serve(tmp_path / "store", ServerConfig(listen=(f"unix:{open_directory}/s",)))
    assert not (tmp_path / "store").exists()


def test_a_server_that_cannot_listen_leaves_no_store_behind(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for address, said in (
            (f"127.0.0.1:{port}", "in use"),
            ("127.0.0.1:1, 2", "neither unix:/PATH nor HOST:PORT"),
        ):
            with pytest.raises((ServerUnavailable, InvalidInput), match=said):
                serve(store, ServerConfig(listen=("127.0.0.1:0", address)))
        done = subprocess.run(
            [sys.executable, "-m", "isogloss", "serve", "--store", str(store), "--listen",
             f"127.0.0.1:{port}"], capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"error: cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(InvalidInput, match="there is no group"):
        serve(store, ServerConfig(group="no such group"))
    assert not store.exists()
    with (
        server_on(store, "--listen", "127.0.0.1:0") as server,
        pytest.raises(StoreOwned, match=str(server.process.pid)),  # who owns it is told first
    ):
        serve(store, ServerConfig(listen=tuple(server.addresses)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"listen": ("nonsense",)}, "HOST:PORT"),
        ({"listen": ("unix:relative",)}, "absolute"),
        ({"token": "short"}, "16"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(
    tmp_path: Path, options: dict[str, tuple[str, ...]], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        serve(tmp_path / "store", ServerConfig(**options))  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "store").exists()
    with pytest.raises(InvalidInput, match="go together"):
        ServerConfig(key=tmp_path / "key")


def test_files_for_tls_that_are_not_there_or_no_pair_are_named(tmp_path: Path) -> None:
    lost, junk = tmp_path / "lost.pem", tmp_path / "junk.pem"
    junk.write_text("no certificate")
    os.mkfifo(pipe := tmp_path / "pipe.pem")
    for key, said in (
        (lost, "lost.pem cannot be read .No such file.*give --certificate and"),
        (pipe, "pipe.pem cannot be read .it is no file.*give --certificate and"),
        (junk, "junk.pem are no certificate and its key in PEM"),
    ):
        config = ServerConfig(listen=("127.0.0.1:0",), certificate=junk, key=key)
        with pytest.raises(InvalidInput, match=said):
            serve(str(tmp_path / "store"), config)
    assert not (tmp_path / "store").exists()


def test_a_second_server_on_a_store_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(store) as server, pytest.raises(StoreOwned, match=str(server.process.pid)):
        serve(store)


def test_with_a_certificate_the_port_speaks_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = self_signed(tmp_path, "own", "DNS:localhost", "IP:127.0.0.1")
    store = tmp_path / "store"
    options = ["--listen", "127.0.0.1:0", "--certificate", str(certificate), "--key", str(key)]
    with server_on(store, *options) as server:
        token = (store / "token").read_text().strip()
        with isogloss.connect(server.addresses[0], token=token, certificate=certificate) as client:
            assert client.recordings() == []
            info = client.server_info()
        assert (info.tls, info.token_wanted, info.runs_workers) == (True, True, False)
        assert info.addresses == (server.addresses[0],)
        with pytest.raises(ServerUnavailable, match="TLS"):
            isogloss.connect(server.addresses[0], token=token, timeout_s=3)
        # a command has no other way, and one that is given the store finds the server alone
        monkeypatch.setenv("ISOGLOSS_CERTIFICATE", str(certificate))
        done = CliRunner().invoke(app, ["info", "--json", "--store", str(store)])
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["tls"] is True


# Strangers.


def test_bytes_that_are_no_message_are_an_invalid_argument(served_store: Path) -> None:
    with grpc.insecure_channel(f"unix:{served_store}/run/socket") as channel:

        def single(path: str, raw: bytes) -> object:
            return channel.unary_unary(path)(raw, timeout=200)

        def listed(path: str, raw: bytes) -> object:
            return list(channel.unary_stream(path)(raw, timeout=200))

        def both(path: str, raw: bytes) -> object:
            return list(channel.stream_stream(path)(iter([raw]), timeout=200))

        for path, call in [
            ("/isogloss.v1.RecordingService/GetRecording", single),
            ("/isogloss.v1.UniversalityService/NearestFeatures", single),
            ("/google.longrunning.Operations/GetOperation", single),
            ("/isogloss.v1.RecordingService/Read", listed),
            ("/isogloss.v1.RecordingService/Append", both),
        ]:
            for raw in (b"\xff\xff\xff", b"\x0a\xff\x01", b"\x0a\x02\xff\xfe"):
                with pytest.raises(grpc.RpcError) as caught:
                    call(path, raw)
                assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, path
                trailers = {item.key: item.value for item in caught.value.trailing_metadata()}
                info = error_details_pb2.ErrorInfo()
                details = status_pb2.Status.FromString(trailers[DETAILS_KEY]).details[0]
                assert details.Unpack(info)
                assert info.reason == "INVALID_INPUT"


def test_a_message_beyond_the_limit_is_refused(served_store: Path) -> None:
    channel = grpc.insecure_channel(f"unix:{served_store}/run/socket")
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/isogloss.v1.RecordingService/GetRecording")(b"\x0a" * (17 << 20))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    channel.close()


def test_a_client_of_stock_grpc_can_append_and_read(served_store: Path) -> None:
    import xxhash

    with isogloss.connect(served_store) as client:
        client.create_recording(sample_spec("stock"), ["a"])
    batch = sample_batch(sample_spec("stock"), "p", 1)
    content = b"".join(batch.encode())
    half = len(content) // 2
    requests = [
        recordings_pb2.AppendRequest(
            header=recordings_pb2.AppendHeader(recording="recordings/stock", producer="p")
        ),
        *(
            recordings_pb2.AppendRequest(
                sequence=1,
                part=number,
                parts=2,
                batch_bytes=len(content),
                xxh3=xxhash.xxh3_64_intdigest(piece),
                payload=piece,
            )
            for number, piece in enumerate((content[:half], content[half:]))
        ),
    ]
    with grpc.insecure_channel(f"unix:{served_store}/run/socket") as channel:
        stub = recordings_pb2_grpc.RecordingServiceStub(channel)
        answers = list(stub.Append(iter(requests), timeout=200))
        assert answers[0].durable == 0
        assert (answers[-1].durable, answers[-1].rows) == (1, batch.rows)
        blocks = stub.Read(recordings_pb2.ReadRequest(name="recordings/stock", site="layer.2"))
        payload = b"".join(block.payload for block in blocks)
    assert payload == batch.sites["layer.2"].tobytes()


def test_services_can_be_asked_for(served_store: Path) -> None:
    with grpc.insecure_channel(f"unix:{served_store}/run/socket") as channel:
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        [answer] = list(call(iter([asked])))
    names = {service.name for service in answer.list_services_response.service}
    assert set(SERVICES) <= names


def test_a_slow_or_silent_reader_does_not_stop_the_others(served_store: Path) -> None:
    with isogloss.connect(served_store) as client:
        spec = client.create_recording(sample_spec("slow"), ["a"]).spec
        with client.appender("slow", "p") as appender:
            append_samples(appender, spec, 2)
        streams = [client._transport.append(header("slow", f"silent-{i}")) for i in range(40)]
        assert all(stream.receive() is not None for stream in streams)
        assert client.recording("slow").rows > 0
        with client.appender("slow", "q") as appender:
            append_samples(appender, spec, 2)
        for stream in streams:
            stream.close()


def header(recording: str, producer: str) -> recordings_pb2.AppendHeader:
    return recordings_pb2.AppendHeader(recording=f"recordings/{recording}", producer=producer)


def test_producers_faster_than_the_disk_do_not_grow_the_server(tmp_path: Path) -> None:
    store = tmp_path / "store"
    spec = sample_spec(sites=(SiteSpec(name="wide", width=4096),), has_spans=False)
    with (
        server_on(store, "--held-bytes", str(8 << 20)) as server,
        isogloss.connect(store) as client,
    ):
        client.create_recording(spec, ["a"])
        first = sample_batch(spec, "p", 1, rows=192)

        def produce(name: str, count: int) -> None:
            with client.appender("sample", name) as appender:
                for _ in range(count):
                    sequence = appender.next_sequence
                    appender.write(replace(first, producer=name, sequence=sequence))

        def peak_after(count: int) -> int:
            threads = [threading.Thread(target=produce, args=(f"p{i}", count)) for i in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            return peak_bytes(server.process.pid)

        # buffers of eight streams fill once, if each gets more than a window of 32 MiB; what is
        # sent after that adds nothing of its size
        filled = peak_after(24)
        grown = peak_after(48) - filled
        sent = 8 * 48 * first.sites["wide"].nbytes
        assert client.recording("sample").rows == 8 * 72 * 192
        assert grown < sent / 4


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
