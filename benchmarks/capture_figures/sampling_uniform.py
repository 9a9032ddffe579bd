"""What a recorder with a full queue keeps does not depend on the load: a permutation test.

A loop reads documents in bursts; those of a burst have other tokens, lengths and positions than the
others. A stream takes a fixed number of rows each time that the loop went round, so that bursts
fill the queue. The recorder, its queue and its thread are real; the stream keeps in memory what it
is given, at a pace that the loop sets, which makes a run repeatable.

For each run and each of three numbers of a document, the mean over the documents that were kept is
compared with its distribution when the kept ones are drawn anew among all that came, within each
stretch of one share. Over many runs the p-values must be uniform. As a control the rule of earlier
releases, to drop the passes that find the queue full, is put through the same.
"""

import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from house_figures.figure import Figure
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from isogloss.errors import NotFound
from isogloss.service.recording.appender import BatchStream
from isogloss.service.recording.live.opening import Place, Wanted, open_recorder
from isogloss.service.recording.options import RecorderOptions, SampleRate
from isogloss.service.recording.route import Direct
from isogloss.service.recording.sampling import sample_position
from isogloss.service.values.results import RecordingInfo
from isogloss.store import Document, RecordingSpec, Revision, RowBatch, StepInfo

NUMBERS = ("token", "length", "position")
FIRST_SEED = 1000
"""Bursts, pace and queue were chosen on seeds from 0 to 399."""
_ROUNDS = 160
_WIDTH = 4
_TOKENS = 4000
_ROW_BYTES = 16 + 4 * _WIDTH
_QUEUE_ROWS = 400
_PACE = 22
"""Rows that the stream takes each round; a calm round brings 20, one of a burst 75."""


class Table(nn.Module):
    """A model of one site, whose rows hold numbers from 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(_TOKENS, _WIDTH)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the rows of the table."""
        return self.table(input_ids)


class Pace:
    """Lets a stream take so many rows each round, and waits until it has."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._budget = 0
        self._waits = 0
        self.written = 0

    def take(self, rows: int) -> None:
        """Wait for a round with room; called by the stream."""
        with self._changed:
            self._waits += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._budget > 0)
            self._waits -= 1
            self._budget -= rows
            self.written += rows
            self._changed.notify_all()

    def go_round(self, rows: int, queued: int) -> None:
        """Let rows pass; return once the stream has taken them, or all that was queued."""
        with self._changed:
            self._budget = min(self._budget, 0) + rows
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self.written >= queued or (self._budget <= 0 and self._waits > 0)
            )

    def end(self) -> None:
        """Let everything pass."""
        with self._changed:
            self._budget = 1 << 40
            self._changed.notify_all()


class PacedStream:
    """Takes batches as its pace allows, and keeps the documents in them."""

    def __init__(self, producer: str, pace: Pace, kept: set[int]) -> None:
        self._producer = producer
        self._pace = pace
        self._kept = kept
        self._last = 0

    @property
    def producer(self) -> str:
        """Name of the producer."""
        return self._producer

    @property
    def route(self) -> str:
        """Batches stay here."""
        return "kept in memory"

    @property
    def next_sequence(self) -> int:
        """Sequence number of the next batch."""
        return self._last + 1

    @property
    def durable_sequence(self) -> int:
        """Sequence number of the last batch."""
        return self._last

    @property
    def batch_bytes(self) -> int:
        """Bytes of the largest batch."""
        return 1 << 24

    def __enter__(self) -> "PacedStream":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, batch: RowBatch, timeout_s: float | None = None) -> None:
        """Wait for the pace, and keep the documents."""
        self._pace.take(batch.rows)
        self._kept |= {document.id for document in batch.documents}
        self._last = batch.sequence

    def flush(self, timeout_s: float | None = None) -> None:
        """All is kept."""

    def close(self, *, flush: bool = True, timeout_s: float | None = None) -> None:
        """Nothing is open."""


class PacedClient:
    """A store in memory, of one recording, whose streams have a pace."""

    def __init__(self, pace: Pace) -> None:
        self.kept: set[int] = set()
        """Ids of the documents that were recorded."""
        self._pace = pace

    def create_recording(self, spec: RecordingSpec, vocabulary: Sequence[str]) -> RecordingInfo:
        """Create a recording."""
        revision = Revision(recording="in-memory", lanes=())
        return RecordingInfo(uid="in-memory", etag="-", spec=spec, revision=revision, created=0.0)

    def recording(self, recording: str) -> RecordingInfo:
        """Say that there is none yet."""
        raise NotFound(f"no recording {recording!r}")

    def known_documents(self, recording: str, step: int = 0) -> Mapping[int, int]:
        """Return no documents: a run is recorded once."""
        return {}

    def steps(self, recording: str) -> Sequence[StepInfo]:
        """Return no steps."""
        return ()

    def stream(
        self,
        recording: str,
        producer: str,
        *,
        direct: Direct = False,
        root: Path | str | None = None,
    ) -> BatchStream:
        """Open a stream."""
        return PacedStream(producer, self._pace, self.kept)

    def check_route(self, direct: Direct, root: Path | str | None) -> None:
        """Rows stay here."""


@dataclass(frozen=True, slots=True, eq=False)
class Offered:
    """A document that came, and the round in which it did."""

    ids: NDArray[np.int64]
    round: int

    @property
    def numbers(self) -> tuple[float, float, float]:
        """Mean token, length, and the positions of its rows summed."""
        length = len(self.ids)
        return float(self.ids.mean()), float(length), length * (length - 1) / 2

    @property
    def id(self) -> int:
        """Id of the document."""
        return Document.from_token_ids(self.ids).id


def documents_of(seed: int) -> list[Offered]:
    """Draw the documents of a run: bursts of long ones with large tokens, calm between them."""
    chance = np.random.default_rng(seed)
    offered: list[Offered] = []
    is_burst = False
    for number in range(_ROUNDS):
        is_burst = chance.random() < (0.8 if is_burst else 0.12)
        count, low, long = (4, 2400, 18) if is_burst else (2, 0, 10)
        for _ in range(count):
            ids = low + chance.integers(0, 1600, long + chance.integers(-6, 7))
            offered.append(Offered(ids, number))
    return offered


def kept_by_recorder(
    offered: Sequence[Offered], model: nn.Module
) -> tuple[set[int], Sequence[SampleRate]]:
    """Record a run; return the documents that are stored, and the shares that were in force."""
    pace = Pace()
    client = PacedClient(pace)
    options = RecorderOptions(on_full="drop", queue_bytes=_QUEUE_ROWS * _ROW_BYTES, batch_rows=1)
    place = Place("bursts", None, False, None, "all")
    wanted = Wanted(["table"], "", "bursts", "float32", 0, None, "batch_first", None, None)
    recorder = open_recorder(client, model, None, place, wanted, None, options)
    with recorder, torch.no_grad():
        for number in range(_ROUNDS):
            some = [document.ids for document in offered if document.round == number]
            model(**padded(some))
            pace.go_round(_PACE, recorder.counts.rows)
        pace.end()
    return client.kept, recorder.counts.rates


def padded(some: Sequence[NDArray[np.int64]]) -> dict[str, Tensor]:
    """Return documents as a model reads them together."""
    longest = max(map(len, some))
    ids = torch.zeros(len(some), longest, dtype=torch.int64)
    mask = torch.zeros(len(some), longest, dtype=torch.int64)
    for i, one in enumerate(some):
        ids[i, : len(one)] = torch.from_numpy(one)
        mask[i, : len(one)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def kept_by_load(offered: Sequence[Offered]) -> set[int]:
    """Return what the rule of earlier releases keeps: a pass is dropped if the queue is full."""
    queue: deque[int] = deque()
    kept: set[int] = set()
    for number in range(_ROUNDS):
        some = [document for document in offered if document.round == number]
        rows = sum(len(document.ids) for document in some)
        if not queue or sum(queue) + rows <= _QUEUE_ROWS:
            queue.append(rows)
            kept |= {document.id for document in some}
        room = _PACE
        while queue and room > 0:
            taken = min(room, queue[0])
            room -= taken
            queue[0] -= taken
            if not queue[0]:
                queue.popleft()
    return kept


def stretches(offered: Sequence[Offered], rates: Sequence[SampleRate]) -> NDArray[np.int64]:
    """Return for each document the number of the share that was in force when it was kept."""
    place = {document.id: i for i, document in enumerate(offered)}
    stretch = np.zeros(len(offered), np.int64)
    for number, rate in enumerate(rates):
        first = 0 if rate.first_document is None else place[rate.first_document]
        stretch[first:] = number
    return stretch


def p_values(
    offered: Sequence[Offered], kept: set[int], stretch: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Return the p-value of each number: are the kept documents drawn at random?

    The sum over the kept documents of a stretch, drawn without replacement, has a mean and a
    variance in closed form; summed over stretches it is compared with the normal distribution.
    """
    is_kept = np.array([document.id in kept for document in offered])
    numbers = np.array([document.numbers for document in offered])
    difference, variance = np.zeros(3), np.zeros(3)
    for number in np.unique(stretch):
        here = numbers[stretch == number]
        chosen = is_kept[stretch == number]
        n, k = len(here), int(chosen.sum())
        if n > 1 and 0 < k < n:
            difference += here[chosen].sum(0) - k * here.mean(0)
            variance += k * (n - k) / n * here.var(0, ddof=1)
    z = np.divide(difference, np.sqrt(variance), out=np.zeros(3), where=variance > 0)
    found = 2 * stats.norm.sf(np.abs(z))
    return float(found[0]), float(found[1]), float(found[2])


def is_by_hash(
    offered: Sequence[Offered],
    kept: set[int],
    rates: Sequence[SampleRate],
    stretch: NDArray[np.int64],
) -> bool:
    """Whether exactly those documents are stored whose hash is below their stretch's share."""
    wanted = {
        document.id
        for document, number in zip(offered, stretch.tolist(), strict=True)
        if sample_position(document.id) < rates[number].share
    }
    return kept == wanted


def sampling_uniform(
    runs: int = 300, control_runs: int = 100, first_seed: int = FIRST_SEED
) -> Figure:
    """Measure [sampling_uniform]: the worst of three Kolmogorov-Smirnov p-values.

    Args:
        runs: runs of the recorder.
        control_runs: runs of the rule of earlier releases.
        first_seed: of the documents; settings were chosen on seeds below ``FIRST_SEED``.
    """
    found: list[tuple[float, float, float]] = []
    odd = halvings = 0
    model = Table()
    for seed in range(first_seed, first_seed + runs):
        offered = documents_of(seed)
        kept, rates = kept_by_recorder(offered, model)
        stretch = stretches(offered, rates)
        odd += not is_by_hash(offered, kept, rates, stretch)
        halvings += len(rates) - 1
        found.append(p_values(offered, kept, stretch))
    columns = zip(*found, strict=True)
    uniform = {
        name: float(stats.kstest(column, "uniform").pvalue)
        for name, column in zip(NUMBERS, columns, strict=True)
    }
    refused = 0
    for seed in range(first_seed, first_seed + control_runs):
        offered = documents_of(seed)
        control = p_values(offered, kept_by_load(offered), np.zeros(len(offered), np.int64))
        refused += max(control) < 1e-6
    return Figure(
        figure="sampling_uniform",
        value=min(uniform.values()),
        bar=0.001,
        unit="Kolmogorov-Smirnov p",
        at_most=False,
        peers={
            **uniform,
            "runs whose kept documents are not those that the hash keeps": odd,
            "halvings of the share, per run": halvings / runs,
            "runs of 100 in which dropping by load gives p < 1e-6": (
                100 * refused / control_runs if control_runs else None
            ),
        },
        runs=runs,
        is_doubtful=odd > 0 or halvings < runs or refused < 0.95 * control_runs,
    )


if __name__ == "__main__":
    import logging

    logging.disable(logging.WARNING)
    print(sampling_uniform(*(int(word) for word in sys.argv[1:])).to_dict())
