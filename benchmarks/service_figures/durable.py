"""[durable_1] to [durable_512] and [fairness]: streams to the disk beside one bare file.

The bare file is written and synced in the groups that the server committed, as its logs show.
"""

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path
from statistics import median

from house_figures.figure import Figure

import isogloss
from isogloss.store import FileSystem
from isogloss.store.lanes.log_frames import KIND_COMMIT, CommitFrame, read_frames
from service_figures.peers import write_apart, write_bare
from service_figures.served import WIDTH, Served, scratch, served, spec
from service_figures.sizes import MIB, Sizes
from service_figures.streams import Stream, append_all

BARS = {"durable_1": 0.9, "durable_16": 0.9, "durable_128": 0.8, "durable_512": 0.7}
FAIR = 3.0
_MOST_APART = 512
"""Syncs of files apart that are waited for; the rest is taken to last as long each."""


def durable(wanted: Collection[str], sizes: Sizes) -> dict[str, Figure]:
    """Measure the wanted figures in interleaved rounds on one server."""
    names = list(BARS) if "fairness" in wanted else [name for name in BARS if name in wanted]
    rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    groups: dict[str, list[int]] = {}
    apart: dict[str, float] = {}
    with scratch(sizes.directory) as root, served(root, "--no-workers") as server:
        for _ in range(sizes.durable_rounds):
            for name in names:
                count, batches, size = plan(name, sizes.durable_bytes)
                taken_s, fair = _ours(server, count, batches, size)
                groups[name] = committed(root / "store")
                bare_s = write_bare(root / "bare", groups[name])
                rounds[name].append((taken_s, bare_s, fair))
                _forget(server)
                if name not in apart:
                    some = max(1, min(batches, _MOST_APART // count))
                    apart_s = write_apart(root, count, some, size) * batches / some
                    apart[name] = apart_s / bare_s
    found = {name: _figure(name, rounds[name], groups[name], apart) for name in names}
    if "fairness" in wanted:
        found["fairness"] = fairness({name: [of[2] for of in rounds[name]] for name in names})
    return {name: found[name] for name in wanted}


def plan(name: str, total: int) -> tuple[int, int, int]:
    """Return how many streams a figure has, how many batches each sends, and of how many bytes."""
    count = int(name.removeprefix("durable_"))
    size = {1: MIB, 16: MIB, 128: MIB // 4, 512: MIB // 16}[count]
    return count, max(1, total // (count * size)), size


def committed(store: Path) -> list[int]:
    """Return the bytes of rows of each group commit in a store, lane by lane."""
    return [
        rows * 4 * WIDTH
        for log in sorted(store.glob("recordings/*/lanes/*/commit.log"))
        for rows in _commits(log)
    ]


def _commits(log: Path) -> Iterator[int]:
    files = FileSystem()
    descriptor = files.open(log)
    try:
        for frame in read_frames(files, descriptor):
            if frame.kind == KIND_COMMIT:
                yield CommitFrame.from_payload(frame.payload).rows
    finally:
        files.close(descriptor)


def fairness(rounds: dict[str, list[float]]) -> Figure:
    """Return the figure of how much longer the slowest stream takes than the fastest.

    Args:
        rounds: by figure the quotient in each round; one stream alone says nothing.
    """
    medians = {name: median(of) for name, of in rounds.items() if name != "durable_1"}
    return Figure(
        figure="fairness",
        value=max(medians.values()),
        bar=FAIR,
        unit="time of the slowest stream over that of the fastest, the worst number of streams",
        peers={name: round(value, 3) for name, value in medians.items()},
        runs=min(map(len, rounds.values())),
    )


def _figure(
    name: str,
    rounds: list[tuple[float, float, float]],
    groups: list[int],
    apart: dict[str, float],
) -> Figure:
    ours = median(taken for taken, _, _ in rounds)
    bare = median(taken for _, taken, _ in rounds)
    total = sum(groups)
    return Figure(
        figure=name,
        value=bare / ours,
        bar=BARS[name],
        at_most=False,
        unit="speed of durable streams over a bare write and fdatasync of the same groups",
        peers={
            "ours MB/s": round(total / 1e6 / ours, 1),
            "bare MB/s": round(total / 1e6 / bare, 1),
            "groups": len(groups),
            "median group MiB": round(median(groups) / MIB, 2) if groups else 0,
            "a file and a sync for each stream, over bare": round(1 / apart[name], 3),
        },
        runs=len(rounds),
    )


def _ours(server: Served, count: int, batches: int, size: int) -> tuple[float, float]:
    """Send; return the seconds taken, and the slowest stream's time over the fastest's."""
    with isogloss.connect(server.unix) as client:
        client.create_recording(spec("durable"), ["a"])
    streams = [Stream(f"p-{number}") for number in range(count)]
    taken_s = asyncio.run(append_all(server.unix, "durable", streams, batches=batches, size=size))
    times = [stream.done_s - stream.first_s for stream in streams]
    return taken_s, max(times) / min(times)


def _forget(server: Served) -> None:
    with isogloss.connect(server.unix) as client:
        client.delete_recording("durable", client.recording("durable").etag)
