"""[wire_tcp], [wire_unix], [wire_direct]: CPU of client and server a byte, over a raw socket.

The server has no setting without durable acknowledgements. So the store lies in memory (/dev/shm),
where a sync costs nothing; that a byte is also written to a file there is counted against it, and
``bare file in memory`` says how much that is.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from house_figures.figure import Figure

import isogloss
from isogloss import Client
from service_figures.peers import BLOCK, send_bare_grpc, send_raw, send_stock, write_bare
from service_figures.served import (
    Cpu,
    Served,
    batch,
    child,
    end,
    memory_directory,
    pipe,
    scratch,
    served,
    spec,
)
from service_figures.sizes import Sizes

BARS = {"wire_tcp": 3.5, "wire_unix": 2.6, "wire_direct": 0.02}
Lane = Callable[[], tuple[float, float]]
"""Sends a round; returns the CPU seconds of the client and of the server."""
_FLIGHT = "ISOGLOSS_FLIGHT_PYTHON"
NO_FLIGHT = f"not measured: {_FLIGHT} names no Python that has pyarrow"


def wire(wanted: Collection[str], sizes: Sizes) -> dict[str, Figure]:
    """Measure the wanted figures in one interleaved run."""
    with ExitStack() as held:
        root = held.enter_context(scratch(memory_directory()))
        lanes = _lanes(held, root, wanted, sizes)
        costs: dict[str, list[float]] = {name: [] for name in lanes}
        servers: dict[str, list[float]] = {name: [] for name in lanes}
        for measured in range(-1, sizes.rounds):
            for name, lane in lanes.items():
                client_s, server_s = lane()
                sent = sizes.direct_bytes if name == "ours direct" else sizes.wire_bytes
                gigabytes = sent // BLOCK * BLOCK / 1e9
                if measured >= 0:  # the first round warms up
                    costs[name].append((client_s + server_s) / gigabytes)
                    servers[name].append(server_s / gigabytes)
    return figures(wanted, costs, servers)


def figures(
    wanted: Collection[str],
    costs: Mapping[str, list[float]],
    servers: Mapping[str, list[float]],
) -> dict[str, Figure]:
    """Return the figures of CPU seconds a gigabyte, by lane and round.

    Args:
        wanted: ids of figures.
        costs: of client and server together.
        servers: of the server alone.
    """
    found: dict[str, Figure] = {}
    raw = costs["raw tcp"]
    ratios = {name: ratio(of, raw) for name, of in costs.items()}
    peers: dict[str, object] = {
        f"{name} over raw tcp": round(value, 3) for name, value in ratios.items()
    }
    peers |= {f"{name} CPU s/GB": round(median(of), 4) for name, of in costs.items()}
    disk = median(costs["bare file in memory"]) / median(raw)
    for kind in ("tcp", "unix"):
        peers.setdefault(f"flight {kind} over raw tcp", NO_FLIGHT)
        if f"ours {kind}" in ratios:
            floor = ratios[f"bare grpc.aio {kind}"] + disk
            peers[f"ours {kind} over bare grpc.aio and the bare file"] = round(
                ratios[f"ours {kind}"] / floor, 3
            )
            peers[f"ours {kind} less the bare file"] = round(ratios[f"ours {kind}"] - disk, 3)
            peers[f"ours {kind} server CPU s/GB"] = round(median(servers[f"ours {kind}"]), 4)
    for name in wanted:
        is_direct = name == "wire_direct"
        lane = name.replace("wire_", "ours ")
        found[name] = Figure(
            figure=name,
            value=ratio(servers[lane], raw) if is_direct else ratios[lane],
            bar=BARS[name],
            unit="CPU s/GB of the server alone, over a raw TCP socket's client and server"
            if is_direct
            else "CPU s/GB of client and server, 1 MiB, store in memory, over a raw TCP socket's",
            peers=peers,
            runs=len(raw),
        )
    return found


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of one over that of the other, both of the same rounds."""
    return median(ours) / median(theirs)


def _lanes(held: ExitStack, root: Path, wanted: Collection[str], sizes: Sizes) -> dict[str, Lane]:
    """Start all servers; return what sends a round to each."""
    lanes: dict[str, Lane] = {}
    count = sizes.wire_bytes // BLOCK
    block = memoryview(np.random.default_rng(0).bytes(BLOCK))
    rows = np.frombuffer(block, np.float32)
    kinds = {"tcp": "127.0.0.1:0", "unix": f"unix:{root}"}
    for kind, address in kinds.items():
        place = address if kind == "tcp" else f"{address}/raw"
        raw, (at,) = held.enter_context(child("peers", "raw", place))
        lanes[f"raw {kind}"] = _timed(raw.pid, lambda at=at: send_raw(at, block, count))
    for kind, address in kinds.items():
        if f"wire_{kind}" not in wanted:
            continue
        place = address if kind == "tcp" else f"{address}/stock"
        stock, (at,) = held.enter_context(child("peers", "grpc", place))
        lanes[f"stock protobuf grpc {kind}"] = _timed(
            stock.pid, lambda at=at: send_stock(at, rows, count)
        )
        place = address if kind == "tcp" else f"{address}/bare-grpc"
        bare, (at,) = held.enter_context(child("peers", "aio", place))
        lanes[f"bare grpc.aio {kind}"] = _timed(
            bare.pid, lambda at=at: send_bare_grpc(at, block, count)
        )
        with contextlib.suppress(KeyError, OSError):
            place = "grpc://127.0.0.1:0" if kind == "tcp" else f"grpc+unix://{root}/flight"
            lanes[f"flight {kind}"] = held.enter_context(_flight(os.environ[_FLIGHT], place, count))
    lanes["bare file in memory"] = lambda: (_cpu_of_bare(root / "bare", [BLOCK] * count), 0.0)
    server = held.enter_context(served(root, "--no-workers"))
    lanes |= _ours(held, server, [name for name in BARS if name in wanted], sizes)
    return lanes


def _cpu_of_bare(path: Path, groups: list[int]) -> float:
    began = time.process_time()
    write_bare(path, groups)
    return time.process_time() - began


def _timed(pid: int, send: Callable[[], None]) -> Lane:
    """Return a lane that is sent by this process to another one."""

    def lane() -> tuple[float, float]:
        server, began = Cpu(pid), time.process_time()
        send()
        return time.process_time() - began, server.used_s()

    return lane


def _ours(
    held: ExitStack, server: Served, wanted: Collection[str], sizes: Sizes
) -> dict[str, Lane]:
    control = server.pids()["control"]
    owner = held.enter_context(isogloss.connect(server.unix))
    lanes: dict[str, Lane] = {}
    for name in wanted:
        kind = name.removeprefix("wire_")
        recording = f"r-{kind}"
        token = server.token if kind == "tcp" else None
        address = server.tcp if kind == "tcp" else server.unix
        client = held.enter_context(isogloss.connect(address, token=token))
        is_direct = kind == "direct"
        count = (sizes.direct_bytes if is_direct else sizes.wire_bytes) // BLOCK
        sent = _timed(control, _send_ours(client, recording, is_direct, count))
        lanes[f"ours {kind}"] = _on_new_recording(owner, recording, sent)
    return lanes


def _send_ours(client: Client, recording: str, is_direct: bool, count: int) -> Callable[[], None]:
    def send() -> None:
        with client.stream(recording, "p", direct=is_direct) as stream:
            for number in range(1, count + 1):
                stream.write(batch(BLOCK, "p", number))
            stream.flush()

    return send


def _on_new_recording(owner: Client, recording: str, lane: Lane) -> Lane:
    """Return a lane that makes its recording before and deletes it after, which is not counted."""

    def around() -> tuple[float, float]:
        owner.create_recording(spec(recording), ["a"])
        try:
            return lane()
        finally:
            owner.delete_recording(recording, owner.recording(recording).etag)

    return around


@contextmanager
def _flight(python: str, address: str, count: int) -> Generator[Lane]:
    """Run Flight's server and client in their own environment; yield what sends a round."""
    script = str(Path(__file__).with_name("flight.py"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [python, script, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(process)
        return process

    def told(process: "subprocess.Popen[str]", line: str) -> float:
        pipe(process.stdin).write(f"{line}\n")
        pipe(process.stdin).flush()
        return float(pipe(process.stdout).readline())

    try:
        server = start("serve", address)
        at = pipe(server.stdout).readline().strip()
        client = start("send", at)
        pipe(client.stdout).readline()

        def lane() -> tuple[float, float]:
            before = told(server, "cpu")
            client_s = told(client, str(count))
            return client_s, told(server, "cpu") - before

        yield lane
    finally:
        for process in started:
            pipe(process.stdin).close()
            end(process)
