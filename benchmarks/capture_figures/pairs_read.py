"""Neighbouring pairs beside plain shuffled rows, of one recording, in one interleaved run.

Both are counted in rows that are handed out a second: a pair is two. The recording has documents
of 64 to 512 rows of 768 numbers in bfloat16, in the live tier, in the page cache; batches are of
2,048 rows (1,024 pairs), with the defaults of both readers.

``PYTHONPATH=benchmarks:src python -m capture_figures.pairs_read``
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import ml_dtypes
import numpy as np
from house_figures.figure import Figure

from isogloss.store import (
    Document,
    ModelInfo,
    RecordingReader,
    RecordingSpec,
    RowBatch,
    Sampling,
    SiteSpec,
    Store,
)

ROWS = 262_144
WIDTH = 768
BATCH_ROWS = 2048
ROUNDS = 9
SITE = "layer.3"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """A way of reading, started at a step, and how many rows a batch of it hands out."""

    start: Callable[[int], Iterator[object]]
    steps: int


def pairs_read() -> Figure:
    """Measure how fast neighbouring pairs are read, over plain shuffled rows.

    The recording takes about 400 MB of temporary files.
    """
    with (
        tempfile.TemporaryDirectory(prefix="isogloss-pairs-") as directory,
        Store.open(Path(directory) / "store") as store,
    ):
        reader = _recorded(store)
        ways = {
            "pairs": _pairs(reader, mapped=True),
            "shuffled": _shuffled(reader, mapped=True),
            "pairs, not mapped": _pairs(reader, mapped=False),
            "shuffled, not mapped": _shuffled(reader, mapped=False),
        }
        speeds = _interleaved(ways)
    return Figure(
        figure="pairs_read",
        value=speeds["pairs"] / speeds["shuffled"],
        bar=0.8,
        at_most=False,
        peers={
            **{f"million rows/s, {name}": speed / 1e6 for name, speed in speeds.items()},
            "not mapped": speeds["pairs, not mapped"] / speeds["shuffled, not mapped"],
        },
        runs=ROUNDS,
        unit="rows handed out a second, pairs at distance 1 over plain shuffled rows",
    )


def _pairs(reader: RecordingReader, *, mapped: bool) -> _Read:
    plan = reader.sampled(Sampling.pairs())

    def start(epoch: int) -> Iterator[object]:
        return plan.batches([SITE], seed=0, epoch=epoch, batch_units=BATCH_ROWS // 2, mapped=mapped)

    return _Read(start=start, steps=plan.steps_per_epoch(BATCH_ROWS // 2))


def _shuffled(reader: RecordingReader, *, mapped: bool) -> _Read:
    def start(epoch: int) -> Iterator[object]:
        return reader.shuffled([SITE], seed=0, epoch=epoch, batch_rows=BATCH_ROWS, mapped=mapped)

    return _Read(start=start, steps=reader.steps_per_epoch(BATCH_ROWS))


def _interleaved(ways: dict[str, _Read]) -> dict[str, float]:
    """Return rows a second of each way: the median over rounds in which they alternate."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    steps = min(way.steps for way in ways.values())
    for number in range(-1, ROUNDS):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            done = sum(1 for _ in islice(ways[name].start(number + 1), steps))
            if number >= 0:
                found[name].append(done * BATCH_ROWS / (time.perf_counter() - began))
    return {name: statistics.median(speeds) for name, speeds in found.items()}


def _recorded(store: Store) -> RecordingReader:
    spec = RecordingSpec(
        recording="pairs",
        model=ModelInfo(name="none"),
        tokenizer="none",
        corpus="random",
        sites=(SiteSpec(name=SITE, width=WIDTH),),
        has_spans=False,
    )
    recording = store.create_recording(spec, ["a"])
    random = np.random.default_rng(0)
    lane = recording.open_lane()
    written, sequence = 0, 0
    while written < ROWS:
        lengths = random.integers(64, 513, 32)
        sequence += 1
        lane.append([_batch(lengths, sequence, random)])
        written += int(lengths.sum())
    lane.close()
    recording.derive()
    return recording.reader()


def _batch(lengths: np.ndarray, sequence: int, random: np.random.Generator) -> RowBatch:
    rows = int(lengths.sum())
    documents = [Document.from_text(f"{sequence} {number}") for number in range(len(lengths))]
    values = random.standard_normal((rows, WIDTH), np.float32).astype(ml_dtypes.bfloat16)
    ids = np.array([document.id for document in documents], np.uint64)
    return RowBatch(
        producer="rank-0",
        sequence=sequence,
        sites={SITE: values},
        token_id=np.zeros(rows, np.uint32),
        document=np.repeat(ids, lengths),
        position=np.concatenate([np.arange(n, dtype=np.uint32) for n in lengths]),
        documents=tuple(documents),
    )


if __name__ == "__main__":
    print(pairs_read())
