"""[weights_wire] and [weights_rss]: a dictionary of 24,576 x 768 from a server into a client.

The wire is compared with a raw unix socket that sends as many bytes out of memory into memory.
Rounds of the two take turns; the fastest of each are compared. The memory is that of a process that
does nothing else: its highest resident size while the weights come, less what it was once a small
dictionary had come.
"""

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from house_figures.figure import Figure
from service_figures.served import memory_directory, scratch, served

import isogloss
from hand_figures.planted import place, random_dictionary
from isogloss.store import Store

FEATURES, WIDTH = 24_576, 768
ROUNDS = 9
_BLOCK = 1 << 20


def weights(features: int = FEATURES, width: int = WIDTH, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Measure both figures on one server."""
    with scratch(memory_directory()) as root:
        with Store.open(root / "store") as store:
            place(store, random_dictionary("topk", features, width, 0), "wide")
            place(store, random_dictionary("topk", 64, 8, 0), "small")
        size = 4 * (2 * features * width + features + width)
        with served(root) as server:
            yield _wire(server.unix, root, size, rounds)
            yield _memory(server.unix, size)


def _wire(address: str, root: Path, size: int, rounds: int) -> Figure:
    ours: list[float] = []
    raw: list[float] = []
    with (
        _raw_sender(root / "raw", size),
        isogloss.connect(address, timeout_s=300) as client,
    ):
        client.dictionary("wide")  # imports torch; the server compares the checksum
        for _ in range(rounds):
            began = time.perf_counter()
            client.dictionary("wide")
            ours.append(time.perf_counter() - began)
            raw.append(_raw(root / "raw", size))
    value = min(ours) / min(raw)  # what else runs here only ever adds to a time
    peers: dict[str, object] = {
        "ours_best_s": round(min(ours), 4),
        "raw_best_s": round(min(raw), 4),
        "ours_s": round(statistics.median(ours), 4),
        "raw_s": round(statistics.median(raw), 4),
        "megabytes": round(size / 1e6, 1),
        "ratios": [round(a / b, 2) for a, b in zip(ours, raw, strict=True)],
    }
    return Figure(
        figure="weights_wire", value=value, bar=2.6, unit="x raw unix socket", peers=peers,
        runs=rounds,
    )  # fmt: skip


_SENDER = """
import socket, sys

path, size, block = sys.argv[1], int(sys.argv[2]), memoryview(bytes(1 << 20))
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(path)
    listening.listen()
    print("ready", flush=True)
    while True:
        taken, _ = listening.accept()
        with taken:
            taken.recv(1)
            for start in range(0, size, len(block)):
                taken.sendall(block[: min(len(block), size - start)])
"""


@contextmanager
def _raw_sender(path: Path, size: int) -> Generator[None]:
    """Run a process that sends so many bytes to whoever connects."""
    command = [sys.executable, "-c", _SENDER, str(path), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is not None:
                process.stdout.readline()
            yield
        finally:
            process.kill()


def _raw(path: Path, size: int) -> float:
    """Return the seconds that as many bytes take over a raw unix socket into new memory."""
    with socket.socket(socket.AF_UNIX) as taking:
        taking.connect(str(path))
        began = time.perf_counter()
        taking.sendall(b"x")
        into, place_ = memoryview(np.empty(size, np.uint8).data), 0
        while place_ < size:
            place_ += taking.recv_into(into[place_ : place_ + _BLOCK])
        return time.perf_counter() - began


_CLIENT = """
import re, sys
import isogloss

def resident(field):
    return int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

with isogloss.connect(sys.argv[1], timeout_s=300) as client:
    client.dictionary("small")
    before = resident("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    held = client.dictionary("wide")
    print(resident("VmHWM") - before, sum(p.nbytes for p in held.parameters()))
"""


def _memory(address: str, size: int) -> Figure:
    done = subprocess.run(
        [sys.executable, "-c", _CLIENT, address], capture_output=True, text=True, check=False
    )
    peers: dict[str, object] = {"megabytes": round(size / 1e6, 1), "said": done.stderr[-300:]}
    value = None
    if done.returncode == 0:
        peak, held = map(int, done.stdout.split())
        value = peak / held
        peers["peak_megabytes"] = round(peak / 1e6, 1)
    return Figure(figure="weights_rss", value=value, bar=1.2, unit="x weights", peers=peers)
