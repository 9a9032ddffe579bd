"""Figures of the store beside raw files, zarr-python and tensorstore, interleaved in one run.

``python benchmarks/store.py [--json] [--megabytes N] [--directory D]`` writes to a directory of its
own and removes it. Ratios are medians of interleaved rounds; absolute numbers are this machine's.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import tensorstore
import zarr

from isogloss.store import (
    Document,
    LaneLimits,
    ModelInfo,
    Recording,
    RecordingSpec,
    RowBatch,
    SiteSpec,
    Store,
    register_bfloat16,
)
from isogloss.store.statistics import measure

WIDTH = 768
ROW_BYTES = 2 * WIDTH
DOCUMENT = Document.from_text("benchmark")
ROUNDS = 7


def activations(rows: int) -> np.ndarray:
    """Return random bfloat16 rows."""
    return (
        np.random.default_rng(0)
        .standard_normal((rows, WIDTH), np.float32)
        .astype(ml_dtypes.bfloat16)
    )


def batch(values: np.ndarray, sites: Sequence[str], sequence: int) -> RowBatch:
    """Return a batch with the same values at every site."""
    rows = len(values)
    return RowBatch(
        producer="rank-0",
        sequence=sequence,
        sites=dict.fromkeys(sites, values),
        token_id=np.zeros(rows, np.uint32),
        document=np.full(rows, DOCUMENT.id, np.uint64),
        position=np.zeros(rows, np.uint32),
        documents=(DOCUMENT,),
    )


def recording(store: Store, name: str, sites: Sequence[str]) -> Recording:
    """Return a new recording."""
    spec = RecordingSpec(
        recording=name,
        model=ModelInfo(name="benchmark"),
        tokenizer="none",
        corpus="none",
        sites=tuple(SiteSpec(name=site, width=WIDTH) for site in sites),
        has_spans=False,
    )
    return store.create_recording(spec, [])


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def interleaved(
    works: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, tuple[float, float]]:
    """Return the median wall and processor seconds of each, run in turn, order alternating."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(rounds):
        names = list(works)[:: 1 if number % 2 else -1]
        for name in names:
            found[name].append(timed(works[name]))
    return {
        name: (
            statistics.median(wall for wall, _ in times),
            statistics.median(cpu for _, cpu in times),
        )
        for name, times in found.items()
    }


class RawFile:
    """A plain file, written and synced a group at a time."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self.offset = 0

    def append(self, values: np.ndarray) -> None:
        """Write and sync one group."""
        buffer = memoryview(values.view(np.uint8).reshape(-1))  # pyright: ignore[reportArgumentType] - numpy declares no __buffer__ before 3.12
        self.offset += os.pwrite(self.descriptor, buffer, self.offset)
        os.fdatasync(self.descriptor)


class Appender:
    """A lane that is given the next batch at each call."""

    def __init__(self, store: Store, name: str, values: np.ndarray, sites: Sequence[str]) -> None:
        self.recording = recording(store, name, sites)
        self.lane = self.recording.open_lane(LaneLimits(free_bytes=0))
        self.values, self.sites, self.sequence = values, sites, 0

    def __call__(self) -> None:
        """Append one group."""
        self.sequence += 1
        self.lane.append([batch(self.values, self.sites, self.sequence)])


class ZarrAppender:
    """The same rows through zarr-python: resize, write, sync what was written."""

    def __init__(self, path: Path, values: np.ndarray) -> None:
        self.path, self.values = path, values
        self.array = zarr.create_array(
            str(path), shape=(0, WIDTH), dtype="uint16", chunks=(512, WIDTH), compressors=None
        )

    def __call__(self) -> None:
        """Append one group."""
        start = self.array.shape[0]
        self.array.resize((start + len(self.values), WIDTH))
        self.array[start:] = self.values.view(np.uint16)
        names = [f"c/{chunk}/0" for chunk in range(start // 512, -(-self.array.shape[0] // 512))]
        for name in [*names, "zarr.json"]:
            descriptor = os.open(self.path / name, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def ingest(store: Store, root: Path) -> dict[str, float]:
    """Durable appends of 8 MiB and of 96 KiB."""
    large, small = activations((8 << 20) // ROW_BYTES), activations((96 << 10) // ROW_BYTES)
    half = small[: len(small) // 2]
    raw = RawFile(root / "raw")
    lane, zarr_lane = Appender(store, "large", large, ["s"]), ZarrAppender(root / "z8", large)
    eight = interleaved({"raw": lambda: raw.append(large), "lane": lane, "zarr": zarr_lane})
    tiny = interleaved(
        {
            "raw": lambda: raw.append(small),
            "lane": Appender(store, "small", small, ["s"]),
            "two": Appender(store, "two", half, ["s", "t"]),
            "zarr": ZarrAppender(root / "z96", small),
        },
        rounds=41,
    )
    gigabytes = large.nbytes / 1e9
    return {
        "ingest_8m": eight["raw"][0] / eight["lane"][0],
        "ingest_8m_zarr": eight["raw"][0] / eight["zarr"][0],
        "ingest_cpu": eight["lane"][1] / gigabytes,
        "ingest_cpu_raw": eight["raw"][1] / gigabytes,
        "ack_96k": tiny["lane"][0] / tiny["raw"][0],
        "ack_96k_2sites": tiny["two"][0] / tiny["raw"][0],
        "ack_96k_zarr": tiny["zarr"][0] / tiny["raw"][0],
    }


def commit_flat(store: Store, groups: int) -> dict[str, float]:
    """Processor time of a commit early and late in a lane of many small groups."""
    appender = Appender(store, "flat", activations(1), ["s"])
    early = [timed(appender)[1] for _ in range(1000)]
    for _ in range(groups - 2000):
        appender()
    late = [timed(appender)[1] for _ in range(1000)]
    return {"commit_flat": statistics.median(late) / statistics.median(early), "groups": groups}


def reading(store: Store, root: Path, megabytes: int) -> dict[str, float]:
    """Shuffled and sequential reading of a live lane, the page cache warm."""
    values = activations((8 << 20) // ROW_BYTES)
    appender = Appender(store, "read", values, ["s"])
    raw = RawFile(root / "memmap")
    for _ in range(max(4, megabytes // 8)):
        appender()
        raw.append(values)
    appender.lane.publish()
    reader = appender.recording.reader()
    lane = root / "store" / "recordings" / appender.recording.uid / "lanes" / appender.lane.name
    register_bfloat16()
    by_zarr = zarr.open_array(str(lane / "site-0"), mode="r")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(lane / "site-0")}}
    by_tensorstore = tensorstore.open(spec).result()
    memmap = np.memmap(root / "memmap", np.uint16, "r").reshape(-1, WIDTH)
    epochs = iter(range(1000))
    steps = reader.steps_per_epoch(2048)
    chance = np.random.default_rng(0)

    def shuffled(mapped: bool) -> None:
        for _ in reader.shuffled(["s"], seed=0, epoch=next(epochs), batch_rows=2048, mapped=mapped):
            pass

    def gathered() -> None:
        for _ in range(steps):
            memmap[chance.integers(0, reader.rows, 2048)]

    shuffle = interleaved(
        {"ours": lambda: shuffled(True), "pread": lambda: shuffled(False), "memmap": gathered}
    )
    some = min(reader.rows, 32_768)
    sequential = interleaved(
        {
            "ours": lambda: reader.read("s", 0, some),
            "zarr": lambda: by_zarr[:some],
            "tensorstore": lambda: by_tensorstore[:some].read().result(),
        }
    )
    seal = timed(lambda: measure([reader.read("s", 0, some)], WIDTH))
    return {
        "shuffle_live": shuffle["memmap"][0] / shuffle["ours"][0],
        "shuffle_live_cpu": shuffle["memmap"][1] / shuffle["ours"][1],
        "shuffle_live_pread": shuffle["memmap"][0] / shuffle["pread"][0],
        "sequential": sequential["zarr"][0] / sequential["ours"][0],
        "sequential_tensorstore": sequential["tensorstore"][0] / sequential["ours"][0],
        "seal_cpu": seal[1] / (some * ROW_BYTES / 1e9),
    }


def compression(store: Store, root: Path) -> dict[str, float]:
    """The compressed tier on normally distributed numbers: size, and shuffled reading."""
    values = activations((8 << 20) // ROW_BYTES)
    appender = Appender(store, "compressed", values, ["s"])
    for _ in range(8):
        appender()
    live = appender.recording.reader()
    appender.lane.close()
    tables = live.table("s") is not None
    epochs = iter(range(1000))

    def shuffled(compressed: bool) -> None:
        reader = appender.recording.reader() if compressed else live
        for _ in reader.shuffled(["s"], seed=0, epoch=next(epochs), batch_rows=2048):
            pass

    _, cpu = timed(appender.recording.compress)
    times = interleaved({"live": lambda: shuffled(False), "packed": lambda: shuffled(True)})
    lanes = root / "store" / "recordings" / appender.recording.uid / "lanes"
    size = sum(path.stat().st_size for path in lanes.glob("*/compressed-0/c/*/0"))
    return {
        "ratio": live.rows * ROW_BYTES / size,
        "compress_cpu": cpu / (live.rows * ROW_BYTES / 1e9),
        "shuffle_compressed": times["live"][0] / times["packed"][0] if tables else 0.0,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--groups", type=int, default=5000)
    parser.add_argument("--directory", type=Path, default=None)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="isogloss-bench-", dir=options.directory))
    try:
        with Store.open(root / "store") as store:
            figures = {
                **ingest(store, root),
                **commit_flat(store, options.groups),
                **reading(store, root, options.megabytes),
                **compression(store, root),
            }
    finally:
        shutil.rmtree(root)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    shape = f"width {WIDTH}, bfloat16"
    if options.json:
        json.dump({"machine": machine, "shape": shape, "figures": figures}, sys.stdout, indent=1)
        print()
        return
    print(f"{shape}; {machine}")
    for name, value in figures.items():
        print(f"[{name}] {value:.3g}")


if __name__ == "__main__":
    main()
