"""A server that is told to end: what runs ends well, what is new is refused, twice is at once."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2
from tests.service.serving import Server, append_samples, server_on, start_kept

import isogloss
from isogloss.errors import ServerUnavailable
from isogloss.proto.v1 import recordings_pb2
from isogloss.service.recording.appender import Appender
from isogloss.service.wire.methods import method_of
from isogloss.store import SiteSpec, Store
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()
WIDE = sample_spec("wide", sites=(SiteSpec(name="s", width=1 << 16),), has_spans=False)
READ = method_of(recordings_pb2.ReadRequest, recordings_pb2.ReadResponse)
ROWS = 160
LEAVES = r"shutting down|isogloss serve|open it|call again"
"""What a producer is told of a server that goes."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, Server]]:
    """A store with a small and a wide recording, and its server."""
    store = tmp_path / "store"
    with server_on(store, "--drain-s", "600") as server:
        with isogloss.connect(store) as client:
            client.create_recording(SPEC, ["a"])
            client.create_recording(WIDE, ["a"])
            with client.stream("wide", "p", direct=False) as stream:
                stream.write(sample_batch(WIDE, "p", 1, rows=ROWS))
        yield store, server


class SlowRead:
    """A read of 20 MB that waits for its reader."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        request = recordings_pb2.ReadRequest(name="recordings/wide", site="s")
        self._call = self._channel.unary_stream(
            READ.path, response_deserializer=recordings_pb2.ReadResponse.FromString
        )(request.SerializeToString())
        self.rows = next(self._call).rows

    def finish(self) -> int:
        """Return how many rows came."""
        self.rows += sum(answer.rows for answer in self._call)
        self._channel.close()
        return self.rows

    def status(self) -> grpc.StatusCode | None:
        """Return how it ended."""
        with pytest.raises(grpc.RpcError):
            self.finish()
        code = self._call.code()
        assert code is None or isinstance(code, grpc.StatusCode)
        return code


def health_on(channel: grpc.Channel) -> str:
    answer = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=60)
    status = health_pb2.HealthCheckResponse.FromString(answer).status
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status)


def wait_until_draining(channel: grpc.Channel) -> None:
    while health_on(channel) == "SERVING":
        time.sleep(0.02)


def test_told_to_end_it_says_so_refuses_what_is_new_and_finishes_what_runs(
    served: tuple[Path, Server],
) -> None:
    store, server = served
    with (
        isogloss.connect(server.addresses[0]) as client,
        grpc.insecure_channel(server.addresses[0]) as channel,
    ):
        reading = SlowRead(server.addresses[0])
        server.process.send_signal(signal.SIGTERM)
        wait_until_draining(channel)
        with pytest.raises(ServerUnavailable, match=r"shutting down.*call again once it") as caught:
            list(client._transport.stream(READ, recordings_pb2.ReadRequest(name="recordings/wide")))
        assert str(store) not in str(caught.value)
        assert health_on(channel) == "NOT_SERVING", "it is told for as long as calls run"
        assert server.process.poll() is None
        assert reading.finish() == ROWS
        assert server.process.wait(60) == 0


def test_who_watches_its_health_is_told_and_does_not_hold_it_up(
    served: tuple[Path, Server],
) -> None:
    _, server = served
    with grpc.insecure_channel(server.addresses[0]) as channel:
        watching = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(b"")
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert list(watching) == [], "it was told to end, and is not cut off"
        assert server.process.wait(120) == 0


def test_a_producer_that_never_stops_learns_what_is_durable_and_no_row_is_lost(
    served: tuple[Path, Server],
) -> None:
    store, server = served
    with isogloss.connect(server.addresses[0]) as client:
        appender = client.appender("sample", "p", reconnect_s=0)
        began = threading.Event()

        def produce() -> None:
            with pytest.raises(ServerUnavailable, match=LEAVES):
                produce_on(appender, began)

        thread = threading.Thread(target=produce)
        thread.start()
        assert began.wait(60)
        assert server.terminate() == 0
        thread.join(60)
        promised = appender.durable_sequence
        appender.close(flush=False)
    assert promised >= 20
    with Store.open(store) as opened:
        # what was received whole was committed and acknowledged before the stream ended
        assert check_sample(opened.recording("sample").reader(), {"p": promised}) == {"p": promised}


def produce_on(appender: Appender, began: threading.Event) -> None:
    while True:
        append_samples(appender, SPEC, 1)
        if appender.durable_sequence >= 20:
            began.set()


def test_told_twice_it_ends_at_once(served: tuple[Path, Server]) -> None:
    _, server = served
    with grpc.insecure_channel(server.addresses[0]) as channel:
        reading = SlowRead(server.addresses[0])
        server.process.send_signal(signal.SIGTERM)
        wait_until_draining(channel)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == -signal.SIGTERM
        assert reading.status() is grpc.StatusCode.UNAVAILABLE


def test_calls_that_outlast_the_time_to_drain_are_ended(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(store, "--drain-s", "0.2") as server:
        with isogloss.connect(store) as client:
            client.create_recording(WIDE, ["a"])
            with client.stream("wide", "p", direct=False) as stream:
                stream.write(sample_batch(WIDE, "p", 1, rows=ROWS))
        reading = SlowRead(server.addresses[0])
        assert server.terminate() == 0
        assert reading.status() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


@pytest.mark.parametrize("way", ["told twice", "killed"])
def test_however_it_ends_no_process_stays_and_the_next_server_goes_on(
    tmp_path: Path, way: str
) -> None:
    store = tmp_path / "store"
    small = {"batch_rows": 8, "holdout": 0.0, "epochs": 1e5}
    server = start_kept(store, "--drain-s", "600")
    try:
        with isogloss.connect(store, timeout_s=600) as client:
            for spec in (SPEC, WIDE):
                client.create_recording(spec, ["a"])
            with client.stream("wide", "p", direct=False) as stream:
                stream.write(sample_batch(WIDE, "p", 1, rows=ROWS))
            with client.appender("sample", "p") as appender:
                append_samples(appender, SPEC, 8)
            job = client.train("sample", site=SPEC.sites[0].name, features=8, k=2, more=small).name
            while client.job(job).info().step == 0:
                time.sleep(0.05)
        processes = psutil.Process(server.process.pid).children(recursive=True)
        assert len(processes) >= 3  # the server, its query process, a worker
        if way == "killed":
            server.process.kill()
            processes[0].kill()
        else:
            reading = SlowRead(server.addresses[0])
            with grpc.insecure_channel(server.addresses[0]) as channel:
                server.process.send_signal(signal.SIGTERM)
                wait_until_draining(channel)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 128 + signal.SIGTERM
            assert reading.status() is grpc.StatusCode.UNAVAILABLE
        _, left = psutil.wait_procs(processes, timeout=60)
        assert left == []
    finally:
        server.kill()
    server = start_kept(store)
    try:
        with isogloss.connect(store, timeout_s=600) as client:
            while (info := client.job(job).info()).attempt < 2:
                time.sleep(0.05)
            assert info.step > 0
            client.job(job).cancel()
        assert server.terminate() == 0
    finally:
        server.kill()
