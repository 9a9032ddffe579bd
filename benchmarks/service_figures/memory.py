"""[rss_128]: a server's memory while many streams, a slow disk and slow readers press on it.

``python -m service_figures.memory BYTES_A_SECOND STORE OPTIONS`` is that server: the real one, on
file operations that write no faster.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import grpc
import grpc.aio
import numpy as np
from house_figures.figure import Figure

import isogloss
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.processes.config import ServerConfig
from isogloss.service.processes.control import serve
from isogloss.service.wire.methods import method_of
from isogloss.store import FileSystem, Store
from isogloss.store.disk.filesystem import Buffer
from service_figures.served import SITE, batch, memory_bytes, scratch, served, spec
from service_figures.sizes import MIB, Sizes
from service_figures.streams import Stream, append, channels, metadata

READ = method_of(pb.ReadRequest, pb.ReadResponse)
BAR = 1.1
_DISK_BYTES_S = 32 * MIB
_READERS = 32
_STORED_BATCHES = 64
_BATCH = 4 * MIB


class SlowFiles(FileSystem):
    """The system's files, written at a given pace at most."""

    def __init__(self, bytes_s: float) -> None:
        self._bytes_s = bytes_s

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Write, then wait for as long as so many bytes may take."""
        super().write(descriptor, buffers, offset)
        total = sum(np.frombuffer(each, np.uint8).nbytes for each in buffers)
        time.sleep(total / self._bytes_s)


def rss_128(sizes: Sizes) -> Figure:
    """Measure the figure: most memory over what was declared and what an idle server has."""
    command = (sys.executable, "-m", "service_figures.memory", str(_DISK_BYTES_S))
    with scratch(sizes.directory) as root, served(root, command=command) as server:
        with isogloss.connect(server.unix, timeout_s=120) as client:
            client.create_recording(spec("read"), ["a"])
            client.create_recording(spec("written"), ["a"])
            idle = memory_bytes(server.keeper)
            with client.appender("read", "p") as stream:
                for number in range(1, _STORED_BATCHES + 1):
                    stream.write(batch(MIB, "p", number))
            budget = client.server_info().limits.held_bytes
        ended = asyncio.run(_press(server.unix, sizes.memory_streams, sizes.memory_s))
        seen = {name: memory_bytes(server.keeper, name) for name in ("VmHWM", "VmRSS", "RssFile")}
    return figure(idle, seen, budget, streams=sizes.memory_streams, ended=ended)


def figure(
    idle: int, seen: Mapping[str, int], budget: int, *, streams: int, ended: Sequence[str] = ()
) -> Figure:
    """Return the figure of what was seen, all in bytes."""
    peak = seen["VmHWM"]
    return Figure(
        figure="rss_128",
        value=peak / (idle + budget),
        bar=BAR,
        unit="largest RSS over that of the idle server and the declared budget (held_bytes)",
        peers={
            "idle MiB": idle >> 20,
            "peak MiB": peak >> 20,
            "after MiB": seen["VmRSS"] >> 20,
            "of which pages of files MiB": seen["RssFile"] >> 20,
            "declared MiB": budget >> 20,
            "more than idle, over declared": round((peak - idle) / budget, 3),
            "streams": streams,
            "streams that ended": dict(Counter(ended)),
        },
        is_doubtful=len(ended) > streams // 10,
    )


async def _press(address: str, streams: int, seconds: float) -> list[str]:
    """Send through many streams and read slowly, until the time is over.

    Returns:
        The errors of those that ended before.
    """
    async with channels(address, streams + _READERS) as made:
        tasks = [
            asyncio.create_task(
                append(
                    made[n % len(made)], "written", Stream(f"p-{n}"), batches=1 << 20, size=_BATCH
                )
            )
            for n in range(streams)
        ]
        tasks += [
            asyncio.create_task(_read_slowly(made[n % len(made)], n)) for n in range(_READERS)
        ]
        done, pending = await asyncio.wait(tasks, timeout=seconds)
        for task in pending:
            task.cancel()
        await asyncio.wait(pending) if pending else None
        return [repr(task.exception())[:200] for task in done]


async def _read_slowly(channel: grpc.aio.Channel, number: int) -> None:
    """Take a message a second of one stream after another."""
    request = pb.ReadRequest(name="recordings/read", site=SITE).SerializeToString()
    read = channel.unary_stream(READ.path)
    while True:
        call = read(request, metadata=metadata(f"reader-{number}"))
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.read() is not getattr(grpc.aio, "EOF"):  # noqa: B009 - no stub has it
                await asyncio.sleep(1.0)


def main() -> None:
    """Serve a store on the slow disk."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bytes_s", type=float)
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("store")
    given = parser.parse_args()
    config = ServerConfig(listen=tuple(given.listen), run_workers=False)
    serve(
        Store.open(given.store, files=SlowFiles(given.bytes_s)),
        config,
        on_ready=lambda addresses: print(json.dumps({"addresses": list(addresses)}), flush=True),
    )


if __name__ == "__main__":
    main()
