"""[victim], [victim_refused]: calls of a client that does nothing wrong, while others abuse.

Two calls are timed one after the other: GetRecording, and an append of 96 KiB until it is durable,
on a stream that is opened anew every second. They go straight to gRPC and are not tried again.
"""

import contextlib
import json
import queue
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import grpc
import numpy as np
from house_figures.figure import Figure

import isogloss
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.jobs.queue import JobTable
from isogloss.service.transport.over_grpc import channel_options
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.results import SiteRef
from isogloss.service.wire import framing
from isogloss.service.wire.callers import own_name
from isogloss.service.wire.framing import Framed
from isogloss.store import Store
from service_figures.abuses import ABUSES, GET, RECORDING
from service_figures.served import SITE, Served, batch, child, parts, scratch, served, spec
from service_figures.sizes import MIB, Sizes
from service_figures.streams import APPEND, metadata

NAMES = ("victim", "victim_refused")
LEAST_BAR_MS = 50.0
TIMES_QUIET = 3.0
_APPENDED = 96 << 10
_STORED_BATCHES = 64
_REOPEN_S = 1.0
_DEADLINE_S = 20.0
_NICE = 19


@dataclass
class Calls:
    """What became of the victim's calls."""

    get_ms: list[float] = field(default_factory=list[float])
    """Times of GetRecording."""
    append_ms: list[float] = field(default_factory=list[float])
    """Times of appends."""
    refused: list[str] = field(default_factory=list[str])
    """Status of each call that failed."""

    def add(self, other: "Calls") -> None:
        """Take in what became of others."""
        self.get_ms += other.get_ms
        self.append_ms += other.append_ms
        self.refused += other.refused

    def p99_ms(self) -> dict[str, float]:
        """Return the 99th percentile of each kind; infinite where no call came through."""
        found = {"GetRecording": self.get_ms, "Append": self.append_ms}
        return {
            name: float(np.percentile(of, 99)) if of else float("inf") for name, of in found.items()
        }


class Victim:
    """A client on the unix socket."""

    def __init__(self, address: str) -> None:
        options = [*channel_options(address), ("grpc.enable_retries", 0)]
        self._channel = grpc.insecure_channel(address, options)
        grpc.channel_ready_future(self._channel).result(_DEADLINE_S)
        self._metadata = metadata(own_name())
        self._get = self._channel.unary_unary(GET.path)
        self._request = pb.GetRecordingRequest(name="recordings/victim").SerializeToString()
        self._outbox: queue.Queue[Framed[pb.AppendRequest] | None] = queue.Queue()
        self._answers: Iterator[pb.AppendResponse] | None = None
        self._durable = self._part_bytes = 0
        self._opened_s = 0.0

    def close(self) -> None:
        """End its stream and its connection."""
        self._end_stream()
        self._channel.close()

    def run(self, seconds: float) -> Calls:
        """Call for so many seconds; at least once."""
        found, ends = Calls(), time.monotonic() + seconds
        while True:
            for times, call in ((found.get_ms, self.get), (found.append_ms, self.append)):
                began = time.perf_counter()
                try:
                    call()
                except grpc.RpcError as error:
                    found.refused.append(f"{call.__name__}: {error.code().name}")  # pyright: ignore[reportAttributeAccessIssue]
                    self._end_stream()
                else:
                    times.append(1e3 * (time.perf_counter() - began))
            if time.monotonic() > ends:
                return found

    def get(self) -> None:
        """Ask for a recording."""
        self._get(self._request, timeout=_DEADLINE_S, metadata=self._metadata)

    def append(self) -> None:
        """Append a batch and wait until it is durable, on a new stream where it is time for one."""
        answers = self._answers
        if answers is None or time.monotonic() > self._opened_s + _REOPEN_S:
            self._end_stream()
            answers = self._open()
        wanted = self._durable + 1
        for part in parts(_APPENDED, "victim", wanted, self._part_bytes):
            self._outbox.put(part)
        while self._durable < wanted:
            self._durable = next(answers).durable

    def _open(self) -> Iterator[pb.AppendResponse]:
        call = self._channel.stream_stream(
            APPEND.path,
            request_serializer=framing.encode,
            response_deserializer=pb.AppendResponse.FromString,
        )
        self._outbox = queue.Queue()
        answers = self._answers = call(
            iter(self._outbox.get, None), timeout=_DEADLINE_S, metadata=self._metadata
        )
        header = pb.AppendHeader(recording="recordings/victim", producer="victim")
        self._outbox.put(Framed(head=pb.AppendRequest(header=header), payload=()))
        first = next(answers)
        self._durable, self._part_bytes = first.durable, first.part_bytes
        self._opened_s = time.monotonic()
        return answers

    def _end_stream(self) -> None:
        self._outbox.put(None)
        if self._answers is not None:
            with contextlib.suppress(grpc.RpcError):
                for _ in self._answers:  # what is left of it, to its end in good order
                    pass
        self._answers = None


def victim(wanted: Collection[str], sizes: Sizes) -> dict[str, Figure]:
    """Measure both figures in one run over all kinds of abuse, each after a quiet time."""
    quiet, abused, attacks = Calls(), dict[str, Calls](), dict[str, object]()
    with ExitStack() as held:
        root = held.enter_context(scratch(sizes.directory))
        server = held.enter_context(served(root, "--no-workers"))
        job = _prepare(server)
        suffering = held.enter_context(closing(Victim(server.unix)))
        suffering.run(sizes.quiet_s)  # warms up
        for kind in ABUSES:
            quiet.add(suffering.run(sizes.quiet_s))
            words = (kind, server.unix, server.tcp, server.token, job)
            with child("abuses", *words, nice=_NICE) as (attacker, _):
                abused[kind] = suffering.run(sizes.victim_s)
                said, _ = attacker.communicate(timeout=_DEADLINE_S)
                attacks[kind] = json.loads(said)
    found = figures(quiet, abused, attacks)
    return {name: found[name] for name in wanted}


def figures(
    quiet: Calls, abused: Mapping[str, Calls], attacks: Mapping[str, object]
) -> dict[str, Figure]:
    """Return both figures.

    Args:
        quiet: what became of the victim's calls while nobody abused.
        abused: the same by kind of abuse.
        attacks: how the attackers' calls ended, by kind of abuse.
    """
    before = quiet.p99_ms()
    bars = {call: max(TIMES_QUIET * p99, LEAST_BAR_MS) for call, p99 in before.items()}
    p99 = {(kind, call): ms for kind, of in abused.items() for call, ms in of.p99_ms().items()}
    worst = max(p99, key=lambda key: p99[key] / bars[key[1]])
    refused = {kind: sorted(set(of.refused)) for kind, of in abused.items() if of.refused}
    peers: dict[str, object] = {
        "worst": " of ".join(reversed(worst)),
        "quiet p99 ms": {call: round(ms, 2) for call, ms in before.items()},
        "bars ms": {call: round(ms, 1) for call, ms in bars.items()},
        "p99 ms": {" ".join(key): round(ms, 2) for key, ms in p99.items()},
        "attackers' calls, by how they ended": dict(attacks),
        "calls": {kind: len(of.get_ms) + len(of.append_ms) for kind, of in abused.items()},
    }
    latency = Figure(
        figure="victim",
        value=p99[worst],
        bar=bars[worst[1]],
        unit="ms, p99 of the call and abuse that are worst against max(3x quiet, 50)",
        peers=peers,
        runs=len(abused),
    )
    count = sum(len(of.refused) for of in abused.values())
    return {
        "victim": latency,
        "victim_refused": Figure(
            figure="victim_refused",
            value=count,
            bar=0,
            unit="calls of the victim that failed, over all abuses",
            peers={"by abuse": refused, "quiet": sorted(set(quiet.refused))},
            runs=len(abused),
        ),
    }


def _prepare(server: Served) -> str:
    """Make the recordings, and a job that waits for ever; return the job's name."""
    with isogloss.connect(server.unix, timeout_s=120) as client:
        client.create_recording(spec("victim"), ["a"])
        client.create_recording(spec(RECORDING), ["a"])
        with client.appender(RECORDING, "p") as stream:
            for number in range(1, _STORED_BATCHES + 1):
                stream.write(batch(MIB, "p", number))
    # straight into the queue: a request would first start the query process, which checks it
    with Store.attach(server.store) as store, closing(JobTable.of(store)) as table:
        source = SiteRef(recording=RECORDING, site=SITE)
        spec_of_job = TrainSpec(dictionary="never", sources=(source,), config={"features": 8})
        return f"operations/{table.submit(spec_of_job, '').id}"
