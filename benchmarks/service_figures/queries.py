"""[query_idle_p50], [query_ingest_p99]: nearest features of one feature in all other dictionaries.

``python -m service_figures.queries ADDRESS`` is the producer that appends at full speed meanwhile.
"""

import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
from house_figures.figure import Figure

import isogloss
from isogloss.errors import DeadFeature
from isogloss.proto.v1 import server_pb2
from isogloss.proto.v1 import universality_pb2 as un
from isogloss.service.transport.over_grpc import channel_options
from isogloss.service.wire.methods import Method, method_of
from isogloss.universality import Atlas
from service_figures.atlas import names, write_atlas
from service_figures.served import batch, child, scratch, served, spec
from service_figures.sizes import MIB, Sizes
from service_figures.streams import metadata

BARS = {"query_idle_p50": 1.5, "query_ingest_p99": 60.0}
NEAREST = method_of(un.NearestFeaturesRequest, un.NearestFeaturesResponse)
NULL = method_of(server_pb2.GetServerInfoRequest, server_pb2.ServerInfo)
_COUNT = 5
_CANDIDATES = 101
"""Of each dictionary, as the product asks the atlas for."""
_DEADLINE_S = 60.0
_KEPT_BYTES = 2 << 30
"""What the producer writes before it begins with a new recording."""


def queries(wanted: Collection[str], sizes: Sizes) -> dict[str, Figure]:
    """Measure the wanted figures on one server and one atlas."""
    with ExitStack() as held:
        root = held.enter_context(scratch(sizes.directory))
        directory = write_atlas(
            root / "store",
            dictionaries=sizes.dictionaries,
            features=sizes.features,
            segments=sizes.segments,
        )
        server = held.enter_context(served(root, "--no-workers"))
        channel = held.enter_context(
            grpc.insecure_channel(server.unix, channel_options(server.unix))
        )
        asked = _Asked(channel, directory, names(sizes.dictionaries), sizes.features)
        asked.ask(3)  # starts the query process, which reads the atlas
        idle = {name: list[float]() for name in asked.calls}
        for number in range(sizes.queries):
            for name, call in asked.calls.items():
                idle[name].append(_timed(call, number))
        busy: list[float] = []
        sent = 0
        if "query_ingest_p99" in wanted:
            with child("queries", server.unix) as (producer, _):
                began = time.monotonic()
                busy = [_timed(asked.ask, number) for number in range(sizes.queries)]
                taken_s = time.monotonic() - began
                said, _ = producer.communicate(timeout=_DEADLINE_S)
                sent = int(said) / 1e6 / taken_s
    return {name: figure for name, figure in figures(idle, busy, sent).items() if name in wanted}


def figures(idle: dict[str, list[float]], busy: Sequence[float], sent: float) -> dict[str, Figure]:
    """Return both figures.

    Args:
        idle: times of ``query``, ``null`` and ``faiss`` in interleaved rounds, in ms.
        busy: times of queries during ingest, in ms.
        sent: MB/s of ingest meanwhile.
    """
    p50 = {name: float(np.median(of)) for name, of in idle.items()}
    peers: dict[str, object] = {f"{name} p50 ms": round(ms, 3) for name, ms in p50.items()}
    peers["query p99 ms"] = round(float(np.percentile(idle["query"], 99)), 3)
    during: dict[str, object] = {"ingest MB/s": round(sent, 1)}
    if busy:
        during["p50 ms"] = round(float(np.median(busy)), 3)
    return {
        "query_idle_p50": Figure(
            figure="query_idle_p50",
            value=p50["query"] / (p50["null"] + p50["faiss"]),
            bar=BARS["query_idle_p50"],
            unit="p50 of NearestFeatures over that of a null call and of faiss's search together",
            peers=peers,
            runs=len(idle["query"]),
        ),
        "query_ingest_p99": Figure(
            figure="query_ingest_p99",
            value=float(np.percentile(busy, 99)) if busy else None,
            bar=BARS["query_ingest_p99"],
            unit="ms, p99 of NearestFeatures while a producer appends at full speed",
            peers={**peers, **during},
            runs=len(busy),
        ),
    }


class _Asked:
    """What is asked in each round, by name: a number of the round gives the feature."""

    def __init__(
        self, channel: grpc.Channel, directory: Path, dictionaries: list[str], features: int
    ) -> None:
        self._channel, self._atlas = channel, Atlas.load(directory)
        self._own, *self._others = dictionaries
        live = (feature for feature in _shuffled(features) if self._is_live(feature))
        self._features = [feature for feature, _ in zip(live, range(256), strict=False)]
        self._vectors = self._atlas.vectors(self._own, self._features)
        self.calls: dict[str, Callable[[int], None]] = {
            "query": self.ask,
            "null": self._null,
            "faiss": self._search,
        }

    def _is_live(self, feature: int) -> bool:
        try:
            self._atlas.vectors(self._own, [feature])
        except DeadFeature:
            return False
        return True

    def ask(self, number: int) -> None:
        """Ask the server for the nearest features of one."""
        feature = self._features[number % len(self._features)]
        request = un.NearestFeaturesRequest(
            feature=f"dictionaries/{self._own}/features/{feature}",
            among=[f"dictionaries/{name}" for name in self._others],
            count=_COUNT,
        )
        answer = un.NearestFeaturesResponse.FromString(
            self._call(NEAREST, request.SerializeToString())
        )
        if not answer.hits:
            raise RuntimeError(f"feature {feature} has no neighbour in {self._others}")

    def _null(self, number: int) -> None:
        self._call(NULL, b"")

    def _search(self, number: int) -> None:
        at = number % len(self._features)
        self._atlas.search(self._vectors[at : at + 1], self._others, count=_CANDIDATES)

    def _call(self, method: Method, raw: bytes) -> bytes:
        call = self._channel.unary_unary(method.path)
        return call(raw, timeout=_DEADLINE_S, metadata=metadata("asking"))


def _shuffled(features: int) -> list[int]:
    return np.random.default_rng(11).permutation(features).tolist()


def _timed(call: Callable[[int], None], number: int) -> float:
    """Return how long a call takes, in ms."""
    began = time.perf_counter()
    call(number)
    return 1e3 * (time.perf_counter() - began)


def produce(address: str) -> None:
    """Append until standard input ends; then say how many bytes became durable."""
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    sent = turn = 0
    with isogloss.connect(address, timeout_s=_DEADLINE_S) as client:
        while not told.is_set():
            recording, turn = f"ingested-{turn}", turn + 1
            client.create_recording(spec(recording), ["a"])
            with client.appender(recording, "p") as stream:
                for number in range(1, _KEPT_BYTES // MIB + 1):
                    stream.write(batch(MIB, "p", number))
                    if number == 32 and turn == 1:
                        print("ready", flush=True)
                    if told.is_set():
                        break
                stream.flush()
                sent += stream.durable_sequence * MIB
            client.delete_recording(recording, client.recording(recording).etag)
    print(sent, flush=True)


if __name__ == "__main__":
    produce(sys.argv[1])
