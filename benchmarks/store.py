"""Figures of the store beside raw files, zarr-python and tensorstore, interleaved in one run.

``python benchmarks/store.py [--json] [--only ID ...] [--full] [--directory D] [--activations D]``

Ratios are medians of interleaved rounds, the page cache warm; absolute numbers are this machine's.
What is written, at most about 1 GB at a time, is removed; only MiniLM's activations on the standard
library's documentation, recorded once in a few minutes, stay under ``--activations``.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import ml_dtypes
import numpy as np
import tensorstore
import zarr
from numpy.typing import NDArray

import isogloss
from isogloss.models import load_model, standard_library_texts
from isogloss.store import (
    Document,
    LaneLimits,
    ModelInfo,
    Recording,
    RecordingReader,
    RecordingSpec,
    RowBatch,
    SiteSpec,
    Store,
    register_bfloat16,
)
from isogloss.store.testing.measures import buffer_order, design_effect, file_order, plane_bound

Gather: TypeAlias = Callable[[NDArray[np.int64]], object]

WIDTH = 768
ROW_BYTES = 2 * WIDTH
BATCH_ROWS = 2048
DOCUMENT = Document.from_text("benchmark")
REAL_SITES = ("encoder.layer.2", "encoder.layer.5")
REAL_DOCUMENTS = 1200
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "isogloss" / "benchmark-activations"


FIGURES = {
    "ingest_8m": (">=", 0.6, "speed over a raw file with one fdatasync per 8 MiB"),
    "ingest_cpu": ("<=", 0.5, "CPU s/GB beyond a raw write and fdatasync of the same bytes"),
    "ack_96k": ("<=", 2.0, "time of a durable append of 96 KiB over a raw write and fdatasync"),
    "ack_96k_2sites": ("<=", 3.0, "the same in two sites of 48 KiB"),
    "commit_flat": ("<=", 1.1, "time of a commit late in a lane over one after 1,000 groups"),
    "shuffle_live": (">=", 1.0, "speed of shuffled batches over memmap gathers of random rows"),
    "sequential": (">=", 5.0, "speed over zarr-python on the same files"),
    "seal_cpu": ("<=", 0.7, "CPU s/GB of reading, finite check and moments"),
    "shuffle_compressed": (">=", 0.25, "speed of shuffled batches over the same from live rows"),
    "ratio": (">=", 1.45, "lossless, real bfloat16, the worse of two sites"),
    "ratio_bound": (">=", 0.95, "share of the bound that the entropies of byte planes set"),
    "deff": ("<=", 1.2, "variance of the mean of 2,048 shuffled rows over independent ones"),
}
"""Id, which way, the bar, and what is counted against what."""


@dataclass(kw_only=True)
class Figure:
    """One figure; its bar is in ``FIGURES``."""

    figure: str
    """Its id."""
    value: float
    """The median."""
    peers: dict[str, float] = field(default_factory=dict[str, float])
    """The same of others in the same run, and what explains the value."""
    runs: int = 1
    """Rounds the medians are of."""

    @property
    def holds(self) -> bool:
        """Whether the value reaches the bar."""
        sign, bar, _ = FIGURES[self.figure]
        return self.value <= bar if sign == "<=" else self.value >= bar

    def to_dict(self) -> dict[str, object]:
        """Return the figure for JSON."""
        sign, bar, unit = FIGURES[self.figure]
        peers = {name: float(f"{value:.4g}") for name, value in self.peers.items()}
        return {
            "figure": self.figure, "value": float(f"{self.value:.4g}"), "bar": bar, "sign": sign,
            "holds": self.holds, "unit": unit, "peers": peers, "runs": self.runs,
        }  # fmt: skip


class Times(NamedTuple):
    """Median wall and processor seconds of one piece of work."""

    wall: float
    cpu: float


def interleaved(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Run each work once, then in turn so many times, the order alternating."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(-1, rounds):
        for name in list(works)[:: 1 if number % 2 else -1]:
            wall, cpu = time.perf_counter(), time.process_time()
            works[name]()
            if number >= 0:
                found[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: Times(*(statistics.median(column) for column in zip(*times, strict=True)))
        for name, times in found.items()
    }


def warm_memory(root: Path) -> None:
    """Let a virtual machine give us its memory first: 2 s per GB of the first pages otherwise."""
    (root / "warm").write_bytes(bytes(512 << 20))
    (root / "warm").unlink()


def activations(rows: int) -> np.ndarray:
    """Return normally distributed bfloat16 rows."""
    values = np.random.default_rng(0).standard_normal((rows, WIDTH), np.float32)
    return values.astype(ml_dtypes.bfloat16)


def batch(values: Mapping[str, np.ndarray], sequence: int) -> RowBatch:
    """Return a batch of one document."""
    rows = len(next(iter(values.values())))
    return RowBatch(
        producer="rank-0",
        sequence=sequence,
        sites=values,
        token_id=np.zeros(rows, np.uint32),
        document=np.full(rows, DOCUMENT.id, np.uint64),
        position=np.zeros(rows, np.uint32),
        documents=(DOCUMENT,),
    )


def recording(store: Store, name: str, sites: Mapping[str, int]) -> Recording:
    """Return a new recording of sites of some widths."""
    spec = RecordingSpec(
        recording=name,
        model=ModelInfo(name="benchmark"),
        tokenizer="none",
        corpus="none",
        sites=tuple(SiteSpec(name=site, width=width) for site, width in sites.items()),
        has_spans=False,
    )
    return store.create_recording(spec, [])


class RawFile:
    """A plain file, written and synced a group at a time."""

    def __init__(self, path: Path, values: np.ndarray) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self.buffer = memoryview(values.view(np.uint8).reshape(-1))  # pyright: ignore[reportArgumentType] - numpy declares no __buffer__ before 3.12
        self.offset = 0

    def __call__(self) -> None:
        """Write and sync one group."""
        self.offset += os.pwrite(self.descriptor, self.buffer, self.offset)
        os.fdatasync(self.descriptor)


class Appender:
    """A lane that is given the next batch at each call; batches are the caller's work."""

    def __init__(self, store: Store, name: str, values: np.ndarray, sites: Sequence[str]) -> None:
        self.recording = recording(store, name, dict.fromkeys(sites, WIDTH))
        self.lane = self.recording.open_lane(LaneLimits(free_bytes=0))
        self.values = dict.fromkeys(sites, values)
        self.sequence = 0
        self.ahead: list[RowBatch] = []

    def __call__(self) -> None:
        """Append one group."""
        if not self.ahead:
            numbers = range(self.sequence + 512, self.sequence, -1)
            self.ahead = [batch(self.values, number) for number in numbers]
        self.sequence += 1
        self.lane.append([self.ahead.pop()])


class ZarrAppender:
    """The same rows through zarr-python: resize, write, sync what was written."""

    def __init__(self, path: Path, values: np.ndarray) -> None:
        self.path, self.values = path, values.view(np.uint16)
        self.array = zarr.create_array(
            str(path), shape=(0, WIDTH), dtype="uint16", chunks=(512, WIDTH), compressors=None
        )

    def __call__(self) -> None:
        """Append one group."""
        start = self.array.shape[0]
        self.array.resize((start + len(self.values), WIDTH))
        self.array[start:] = self.values
        names = [f"c/{chunk}/0" for chunk in range(start // 512, -(-self.array.shape[0] // 512))]
        for name in [*names, "zarr.json"]:
            descriptor = os.open(self.path / name, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


class TensorstoreAppender:
    """The same rows through tensorstore, which syncs what it writes."""

    def __init__(self, path: Path, values: np.ndarray) -> None:
        self.values, self.rows = values.view(np.uint16), 0
        grid = {"name": "regular", "configuration": {"chunk_shape": [512, WIDTH]}}
        metadata = {"shape": [0, WIDTH], "data_type": "uint16", "chunk_grid": grid}
        kvstore = {"driver": "file", "path": str(path)}
        spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata, "create": True}
        self.array = tensorstore.open(spec).result()

    def __call__(self) -> None:
        """Append one group."""
        start, self.rows = self.rows, self.rows + len(self.values)
        self.array = self.array.resize(exclusive_max=[self.rows, WIDTH]).result()
        self.array[start : self.rows].write(self.values).result()


def ingest(store: Store, root: Path, _: argparse.Namespace) -> Iterator[Figure]:
    """Durable appends of 8 MiB and of 96 KiB."""
    large, small = activations((8 << 20) // ROW_BYTES), activations((96 << 10) // ROW_BYTES)
    gigabytes, runs = large.nbytes / 1e9, 9
    eight = interleaved(
        {
            "raw": RawFile(root / "raw8", large),
            "lane": Appender(store, "large", large, ["s"]),
            "zarr": ZarrAppender(root / "zarr8", large),
            "tensorstore": TensorstoreAppender(root / "tensorstore8", large),
        },
        runs,
    )
    raw, others = eight["raw"], ("zarr", "tensorstore")
    peers = {name: raw.wall / eight[name].wall for name in others}
    yield Figure(figure="ingest_8m", value=raw.wall / eight["lane"].wall, peers=peers, runs=runs)
    peers = {f"{name}, in all": times.cpu / gigabytes for name, times in eight.items()}
    beyond = (eight["lane"].cpu - raw.cpu) / gigabytes
    yield Figure(figure="ingest_cpu", value=beyond, peers=peers, runs=runs)
    half, runs = small[: len(small) // 2], 101
    tiny = interleaved(
        {
            "raw": RawFile(root / "raw96", small),
            "ack_96k": Appender(store, "small", small, ["s"]),
            "ack_96k_2sites": Appender(store, "two", half, ["s", "t"]),
            "zarr": ZarrAppender(root / "zarr96", small),
            "tensorstore": TensorstoreAppender(root / "tensorstore96", small),
        },
        runs,
    )
    peers = {name: tiny[name].wall / tiny["raw"].wall for name in others}
    peers["raw, ms"] = 1e3 * tiny["raw"].wall
    for name in ("ack_96k", "ack_96k_2sites"):
        value = tiny[name].wall / tiny["raw"].wall
        yield Figure(figure=name, value=value, peers=peers, runs=runs)


def commit_flat(store: Store, _: Path, options: argparse.Namespace) -> Iterator[Figure]:
    """The same commit late in a lane of very many, and early in another, side by side."""
    late, early = (Appender(store, name, activations(1), ["s"]) for name in ("late", "early"))
    groups, runs = 100_000 if options.full else options.groups, 501
    for appender, count in ((late, groups), (early, 1000)):
        for _number in range(count):
            appender()
    times = interleaved({"early": early, "late": late}, runs)
    late_s, early_s = times["late"], times["early"]
    peers = {"groups": groups, "CPU, not time": late_s.cpu / early_s.cpu}
    value = late_s.wall / early_s.wall
    yield Figure(figure="commit_flat", value=value, peers=peers, runs=runs)


def reading(store: Store, root: Path, options: argparse.Namespace) -> Iterator[Figure]:
    """Shuffled and sequential reading of a live lane, and its statistics."""
    values = activations((8 << 20) // ROW_BYTES)
    appender, raw = Appender(store, "read", values, ["s"]), RawFile(root / "memmap", values)
    for _ in range(max(4, options.megabytes // 8)):
        appender()
        raw()
    appender.lane.publish()
    reader = appender.recording.reader()
    path = str(appender.recording.directory / "lanes" / appender.lane.name / "site-0")
    register_bfloat16()
    by_zarr = zarr.open_array(path, mode="r")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    by_tensorstore = tensorstore.open(spec).result()
    memmap = np.memmap(root / "memmap", np.uint16, "r").reshape(-1, WIDTH)
    gathers: dict[str, Gather] = {
        "memmap": lambda rows: memmap[rows],
        "zarr": lambda rows: by_zarr.oindex[rows],
        "tensorstore": lambda rows: by_tensorstore[rows].read().result(),
    }
    yield shuffle_live(reader, gathers)
    some, runs = min(reader.rows, 32_768), 9
    times = interleaved(
        {
            "ours": lambda: reader.read("s", 0, some),
            "zarr": lambda: by_zarr[:some],
            "tensorstore": lambda: by_tensorstore[:some].read().result(),
            "memmap": lambda: np.array(memmap[:some]),
        },
        runs,
    )
    zarr_s = times["zarr"].wall
    peers = {name: zarr_s / times[name].wall for name in ("tensorstore", "memmap")}
    value = zarr_s / times["ours"].wall
    yield Figure(figure="sequential", value=value, peers=peers, runs=runs)
    seal = interleaved({"ours": lambda: appender.recording.statistics("s")}, runs)["ours"]
    yield Figure(figure="seal_cpu", value=seal.cpu / (reader.rows * ROW_BYTES / 1e9), runs=runs)


def shuffle(reader: RecordingReader, epochs: Iterator[int], *, mapped: bool = True) -> None:
    """Read one epoch in shuffled order."""
    epoch = next(epochs)
    for _ in reader.shuffled(["s"], seed=0, epoch=epoch, batch_rows=BATCH_ROWS, mapped=mapped):
        pass


def shuffle_live(reader: RecordingReader, gathers: Mapping[str, Gather]) -> Figure:
    """Shuffled training batches beside gathers of as many random rows."""
    epochs, steps, runs = iter(range(1000)), reader.steps_per_epoch(BATCH_ROWS), 15
    chance = np.random.default_rng(0)

    def gather(name: str) -> object:
        return gathers[name](chance.integers(0, reader.rows, BATCH_ROWS))

    times = interleaved(
        {
            "ours": lambda: shuffle(reader, epochs),
            "pread": lambda: shuffle(reader, epochs, mapped=False),
            "memmap": lambda: [gather("memmap") for _ in range(steps)],
        },
        runs,
    )
    one = interleaved({name: partial(gather, name) for name in gathers}, 3)
    whole = times["memmap"]
    peers = {name: one["memmap"].wall / one[name].wall for name in ("zarr", "tensorstore")}
    peers |= {
        "CPU, not time": whole.cpu / times["ours"].cpu,
        "not mapped": whole.wall / times["pread"].wall,
        "memmap, GB/s": steps * BATCH_ROWS * ROW_BYTES / whole.wall / 1e9,
    }
    speed = whole.wall / times["ours"].wall
    return Figure(figure="shuffle_live", value=speed, peers=peers, runs=runs)


def compressed(store: Store, _: Path, options: argparse.Namespace) -> Iterator[Figure]:
    """Shuffled reading of the compressed tier beside the live one, on random numbers."""
    appender = Appender(store, "compressed", activations((8 << 20) // ROW_BYTES), ["s"])
    for _number in range(max(4, options.megabytes // 8)):
        appender()
    live = appender.recording.reader()
    live.table("s")
    appender.lane.close()
    cpu = time.process_time()
    appender.recording.compress()
    cpu = time.process_time() - cpu
    packed = appender.recording.reader()
    epochs, runs = iter(range(1000)), 9
    works = {"live": partial(shuffle, live, epochs), "packed": partial(shuffle, packed, epochs)}
    times = interleaved(works, runs)
    peers = {
        "CPU, not time": times["live"].cpu / times["packed"].cpu,
        "compressing, CPU s/GB": cpu / (live.rows * ROW_BYTES / 1e9),
    }
    value = times["live"].wall / times["packed"].wall
    yield Figure(figure="shuffle_compressed", value=value, peers=peers, runs=runs)


def real_activations(directory: Path) -> dict[str, np.ndarray]:
    """Return the rows of each real site, recorded now where that was not done before."""
    directory = directory.expanduser()
    directory.mkdir(parents=True, exist_ok=True)
    texts = standard_library_texts()
    step = max(1.0, len(texts) / REAL_DOCUMENTS)
    documents = [texts[int(i * step)] for i in range(min(REAL_DOCUMENTS, len(texts)))]
    with isogloss.connect(directory / "store") as client:
        print(f"activations of {len(documents)} documents in {directory}", file=sys.stderr)
        model = load_model("packaged:minilm-l6")
        client.record_documents(model, documents, sites=REAL_SITES, recording="benchmark")
    with Store.attach(directory / "store") as store:
        reader = store.recording("benchmark").reader()
        return {site: reader.read(site, 0, reader.rows) for site in REAL_SITES}


def real(store: Store, _: Path, options: argparse.Namespace) -> Iterator[Figure]:
    """How small real activations become, and how well they are shuffled."""
    sites = real_activations(options.activations)
    there = recording(store, "real", {site: rows.shape[1] for site, rows in sites.items()})
    count = len(sites[REAL_SITES[0]])
    with there.open_lane() as lane:
        for number, start in enumerate(range(0, count, 8192), 1):
            part = {site: rows[start : start + 8192] for site, rows in sites.items()}
            lane.append([batch(part, number)])
    live = there.reader()
    for site in REAL_SITES:
        live.table(site)
    there.compress()
    lanes = there.directory / "lanes"
    ratios = {
        site: rows.nbytes
        / sum(path.stat().st_size for path in lanes.glob(f"*/compressed-{index}/c/*/0"))
        for index, (site, rows) in enumerate(sites.items())
    }
    yield Figure(figure="ratio", value=min(ratios.values()), peers=ratios)
    shares = {site: ratios[site] / plane_bound(rows) for site, rows in sites.items()}
    yield Figure(figure="ratio_bound", value=min(shares.values()), peers=shares)
    yield deff(live, sites[REAL_SITES[0]])


def deff(reader: RecordingReader, values: np.ndarray) -> Figure:
    """How well shuffled batches mix documents, beside the orders of other stores."""
    chance, rows, runs = np.random.default_rng(0), len(values), 8
    orders = {
        "full permutation": [chance.permutation(rows) for _ in range(runs)],
        "in order": [np.arange(rows)],
        "mixing buffer of 16,384 rows": [buffer_order(rows, chance, 16_384) for _ in range(runs)],
        "shuffled files of 8,192 rows": [file_order(rows, chance, 8192) for _ in range(runs)],
    }

    def epoch_rows(epoch: int) -> np.ndarray:
        steps = reader.shuffled([REAL_SITES[0]], seed=0, epoch=epoch, batch_rows=BATCH_ROWS)
        return np.concatenate([step.rows for step in steps])

    value = design_effect(values, [epoch_rows(epoch) for epoch in range(runs)], BATCH_ROWS)
    peers = {name: design_effect(values, order, BATCH_ROWS) for name, order in orders.items()}
    return Figure(figure="deff", value=value, peers={"rows": rows, **peers}, runs=runs)


GROUPS: dict[str, Callable[[Store, Path, argparse.Namespace], Iterator[Figure]]] = {
    "ingest_8m ingest_cpu ack_96k ack_96k_2sites": ingest,
    "commit_flat": commit_flat,
    "shuffle_live sequential seal_cpu": reading,
    "shuffle_compressed": compressed,
    "ratio ratio_bound deff": real,
}


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the wanted figures; each group has a store of its own, gone afterwards."""
    known = {name for names in GROUPS for name in names.split()}
    wanted = set(options.only or known)
    if not wanted <= known:
        sys.exit(f"no figure {sorted(wanted - known)}; there are {sorted(known)}")
    for names, group in GROUPS.items():
        if not wanted & set(names.split()):
            continue
        root = Path(tempfile.mkdtemp(prefix="isogloss-bench-", dir=options.directory))
        try:
            warm_memory(root)
            with Store.open(root / "store") as store:
                yield from (f for f in group(store, root, options) if f.figure in wanted)
        finally:
            shutil.rmtree(root)


def main() -> int:
    """Measure and print; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="ID", help="these figures and no others")
    parser.add_argument("--full", action="store_true", help="100,000 groups for commit_flat")
    parser.add_argument("--groups", type=int, default=10_000, help="the same without --full")
    parser.add_argument("--megabytes", type=int, default=256, help="read by shuffle_live")
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--activations", type=Path, default=CACHE, help="kept from run to run")
    options, found = parser.parse_args(), list[Figure]()
    for figure in measure(options):
        found.append(figure)
        if not options.json:
            sign, bar, unit = FIGURES[figure.figure]
            mark = "holds" if figure.holds else "MISSED"
            print(f"[{figure.figure}] {figure.value:.3g} {sign} {bar} {mark}: {unit}")
            peers = ", ".join(f"{name} {value:.3g}" for name, value in figure.peers.items())
            print(f"    {peers}; {figure.runs} runs", flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    document: dict[str, object] = {"machine": machine, "shape": f"width {WIDTH}, bfloat16"}
    if options.json:
        document |= {"figures": [figure.to_dict() for figure in found]}
    print(json.dumps(document, indent=1))
    return 0 if all(figure.holds for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
