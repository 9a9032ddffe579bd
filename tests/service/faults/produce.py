"""A process that appends sample batches to three recordings until SIGTERM, come what may.

produce.py STORE UNIX TCP: one stream over the unix socket, one over TCP, one past the server. Says
``NAME NUMBER`` once a batch is durable, and ``ERROR NAME TEXT`` for what no fault explains.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import isogloss
from isogloss import Client
from isogloss.errors import Conflict, CorruptData, InternalError, ServerError, StorageError
from isogloss.service.jobs.processes import watch_parent
from isogloss.service.recording.appender import BatchStream
from isogloss.store import RecordingSpec
from isogloss.store.testing import sample_batch

NAMES = ("unix", "tcp", "direct")
_AWAY_S = 0.1
_EXPLAINED = (ServerError, StorageError, Conflict)
"""What faults may do to a stream: the server is away, the disk is full, the lane was lost."""

stopping = threading.Event()


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def is_explained(error: Exception) -> bool:
    return isinstance(error, _EXPLAINED) and not isinstance(error, CorruptData | InternalError)


def produce(name: str, connect: Callable[[], Client]) -> None:
    while not stopping.is_set():
        try:
            with connect() as client:
                spec = client.recording(name).spec
                append(name, spec, client.stream(name, "p", direct=name == "direct"))
        except Exception as error:
            if not is_explained(error):
                say(f"ERROR {name} {type(error).__name__}: {' '.join(str(error).split())}")
                return
        stopping.wait(_AWAY_S)


def append(name: str, spec: RecordingSpec, stream: BatchStream) -> None:
    try:
        while not stopping.is_set():
            for _ in range(3):
                stream.write(sample_batch(spec, "p", stream.next_sequence), 60)
            stream.flush(60)
            say(f"{name} {stream.durable_sequence}")
            stopping.wait(0.15)
        stream.flush(60)
        say(f"{name} {stream.durable_sequence}")
    finally:
        stream.close(flush=False)


def _stop(number: int, frame: FrameType | None) -> None:
    stopping.set()


def main() -> None:
    store, unix, tcp, parent = sys.argv[1:]
    watch_parent(int(parent))
    signal.signal(signal.SIGTERM, _stop)
    token = (Path(store) / "token").read_text().strip()
    ways = (
        lambda: isogloss.connect(unix),
        lambda: isogloss.connect(tcp, token=token),
        lambda: isogloss.connect(unix),
    )
    threads = [
        threading.Thread(target=produce, args=pair) for pair in zip(NAMES, ways, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
