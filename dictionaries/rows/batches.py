"""Read rows of a recording as torch tensors: for training in shuffled order, held-out in order."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import NDArray
from torch import Tensor

from isogloss.dictionaries.rows.joined import SourceRows, join_rows, rows_of
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.rows.usual import UsualRows
from isogloss.dictionaries.wirings.wiring import WiredColumns
from isogloss.errors import CorruptData, InvalidInput, NonFiniteRows
from isogloss.store import RecordingReader, ShuffledBatch

NON_FINITE_REMEDY = (
    "record in a wider dtype (bfloat16 or float32) or without those documents, or leave such rows "
    "out (leave_out.non_finite)"
)
_WAIT_S = 0.1

HeldOutRows: TypeAlias = Float32[Tensor, "_rows width"]
"""Rows that no training saw, float32."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainingBatch:
    """The rows of one optimiser step."""

    step: int
    """Number of the step, from 0, counted over all epochs."""
    rows: Float32[Tensor, "batch_rows width"]
    """``[batch_rows, width]``, float32, multiplied by the loader's scale; the columns of all sites
    side by side, in the order in which they were named. Fewer rows where far ones are left out."""
    usual: NDArray[np.bool_] | None = None
    """Which of the rows are usual; None: all."""
    left_out: int = 0
    """How many rows were left out because they are far from all others."""


def as_tensor(rows: NDArray[np.generic]) -> Tensor:
    """View a numpy array of the store as a tensor of the same dtype, bfloat16 included.

    The tensor shares the array's memory; an array that cannot be written to is copied.
    """
    if not rows.flags.writeable or not rows.flags.c_contiguous:
        rows = rows.copy(order="C")
    if rows.dtype.name == "bfloat16":
        return torch.from_numpy(rows.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(rows)


def training_rows(
    reader: RecordingReader, holdout: float, steps: Sequence[int] | None = None
) -> NDArray[np.bool_]:
    """Mark the rows of documents that may be trained on, bool ``[rows]``.

    Documents with ``split_position < holdout`` are held out; which these are depends on their text
    (or their group) alone, so they are the same in every recording of a corpus.

    Args:
        reader: reads one revision of the recording.
        holdout: share of the documents that are held out.
        steps: the training steps whose rows are taken; None: the one that the recording has.

    Raises:
        InvalidInput: ``holdout`` is outside [0, 1]; or ``steps`` is None and the recording has rows
            of several training steps, or it names one without rows.
        CorruptData: a row names a document the recording does not hold.
    """
    rows = _split(reader, holdout)
    rows &= rows_at(reader, steps)
    return rows


def rows_at(reader: RecordingReader, steps: Sequence[int] | None) -> NDArray[np.bool_]:
    """Mark the rows of training steps, bool ``[rows]``; see ``RecordingReader.chosen_steps``."""
    return rows_of(reader, reader.chosen_steps(steps))


def _split(reader: RecordingReader, holdout: float) -> NDArray[np.bool_]:
    """Mark the rows of documents that are not held out."""
    if not 0 <= holdout <= 1:
        raise InvalidInput(f"holdout is {holdout}; it must be in [0, 1]")
    present, rows = np.unique(reader.tokens().document, return_inverse=True)
    documents = reader.documents()
    missing = [int(key) for key in present if int(key) not in documents]
    if missing:
        raise CorruptData(
            f"recording {reader.spec.recording!r}: {len(missing)} documents have rows but no "
            f"entry, such as {missing[0]:016x}"
        )
    kept = [documents[int(key)].split_position >= holdout for key in present]
    return np.array(kept, dtype=np.bool_)[rows.reshape(-1)]


def training_batches(
    reader: RecordingReader,
    sites: Sequence[str],
    *,
    seed: int,
    batch_rows: int,
    keep: NDArray[np.bool_],
    start_step: int,
    stop_step: int,
    scale: float = 1.0,
    depth: int = 2,
) -> Generator[TrainingBatch, None, None]:
    """Yield the batches of steps ``start_step`` to ``stop_step``, over as many epochs as it takes.

    The order is a pure function of (seed, epoch, step): a run that starts in the middle gets the
    batches an uninterrupted run gets, at any ``depth``. Close the generator to end its thread.

    Args:
        reader: reads one revision of the recording.
        sites: names of the sites whose columns are put side by side.
        seed: seed of the order.
        batch_rows: rows per batch; the last short batch of an epoch is dropped.
        keep: bool ``[rows]``, the rows that may be used, see :func:`training_rows`.
        start_step: the first step to yield.
        stop_step: step after the last one.
        scale: number by which the rows are multiplied.
        depth: how many batches a thread prepares ahead; 0: none, the caller waits for each.

    Raises:
        InvalidInput: the kept rows do not fill one batch.
        NonFiniteRows: a batch holds NaN or infinity.
    """
    sources = [Source(reader=reader, site=site) for site in sites]
    joined = join_rows(sources, tuple(reader.rows_of_steps()))
    return joined_batches(
        joined,
        scales=(scale,) * len(sites),
        seed=seed,
        batch_rows=batch_rows,
        keep=keep,
        start_step=start_step,
        stop_step=stop_step,
        depth=depth,
    )


def joined_batches(
    joined: SourceRows,
    *,
    scales: Sequence[float],
    seed: int,
    batch_rows: int,
    keep: NDArray[np.bool_],
    start_step: int,
    stop_step: int,
    usual: Sequence[UsualRows] = (),
    leave_out: bool = False,
    finite_only: bool = False,
    rank: int = 0,
    world: int = 1,
    depth: int = 2,
) -> Generator[TrainingBatch, None, None]:
    """Yield batches of the rows of several sources; see :func:`training_batches`.

    Args:
        joined: the sources.
        scales: number by which the rows of each source are multiplied.
        seed: seed of the order.
        batch_rows: rows per batch; the last short batch of an epoch is dropped.
        keep: bool ``[rows]``, the rows that may be used, see :func:`training_rows`.
        start_step: the first step to yield.
        stop_step: step after the last one.
        usual: which rows of each source are usual; empty: all.
        leave_out: whether to leave out rows that are not usual at some source.
        finite_only: whether to leave out rows that hold NaN or infinity; False: they are refused.
        rank: which share of each batch to read.
        world: number of shares, of which ``batch_rows`` is a multiple.
        depth: how many batches a thread prepares ahead; 0: none, the caller waits for each.

    Raises:
        InvalidInput: the kept rows do not fill one batch.
        NonFiniteRows: a batch holds NaN or infinity.
    """
    steps_per_epoch = _steps_per_epoch(joined, batch_rows, keep)
    read = partial(joined.reader.shuffled, seed=seed, keep=keep, rank=rank, world=world)
    own = list(dict.fromkeys(s.site for s, n in _numbered(joined) if n is None))

    def batches() -> Iterator[TrainingBatch]:
        step, each = start_step, batch_rows // world
        while step < stop_step:
            epoch, within = divmod(step, steps_per_epoch)
            for batch in read(own, epoch=epoch, batch_rows=each, start_step=within):
                yield _side_by_side(
                    joined, batch, step, scales, usual, leave_out=leave_out, finite_only=finite_only
                )
                step += 1
                if step == stop_step:
                    return

    return _prefetched(batches(), depth)


def _steps_per_epoch(joined: SourceRows, batch_rows: int, keep: NDArray[np.bool_]) -> int:
    """Return how many batches the kept rows fill; InvalidInput where they fill none."""
    found = joined.reader.steps_per_epoch(batch_rows, keep=keep)
    if found < 1:
        raise InvalidInput(
            f"site {joined.name} has {int(keep.sum())} training rows, fewer than batch_rows "
            f"{batch_rows}; record more text, lower batch_rows or lower holdout"
        )
    return found


def _numbered(joined: SourceRows) -> Iterator[tuple[Source, NDArray[np.int64] | None]]:
    return zip(joined.sources, joined.numbers, strict=True)


def _side_by_side(
    joined: SourceRows,
    batch: ShuffledBatch,
    step: int,
    scales: Sequence[float],
    usual: Sequence[UsualRows],
    *,
    leave_out: bool,
    finite_only: bool,
) -> TrainingBatch:
    """Return the rows of a step: of all sources, checked, scaled, far ones marked or left out."""
    parts: list[Tensor] = []
    is_usual, is_kept = np.ones((2, len(batch.rows)), dtype=np.bool_)
    for place, (source, numbers) in enumerate(_numbered(joined)):
        found = batch.sites[source.site] if numbers is None else joined.take(place, batch.rows)
        rows = as_tensor(found).to(torch.float32)
        if finite_only:
            is_kept &= torch.isfinite(rows).all(1).numpy()
            rows = rows.nan_to_num(0.0, 0.0, 0.0)
        else:
            _refuse_non_finite(rows, batch.rows, source.site)
        if usual:
            is_usual &= usual[place].mask(rows.numpy())
        parts.append(rows.mul(scales[place]))
    rows = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    if leave_out:
        is_kept &= is_usual
    left_out = int((~is_kept).sum())
    if left_out:
        rows, is_usual = rows[torch.from_numpy(is_kept)], is_usual[is_kept]
    known = None if is_usual.all() else is_usual
    return TrainingBatch(step=step, rows=rows, usual=known, left_out=left_out)


class HeldOutPair(NamedTuple):
    """Rows that no training saw, at the sites that a dictionary reads and reconstructs; float32."""

    rows: Tensor
    """Rows to read, ``[rows, width]``."""
    target: Tensor
    """Rows to reconstruct, ``[rows, target_width]``."""


def held_out_pairs(
    joined: SourceRows,
    connection: WiredColumns,
    *,
    holdout: float,
    batch_rows: int = 4096,
    max_rows: int | None = None,
    finite_only: bool = False,
) -> Iterator[HeldOutPair]:
    """Yield the rows that were kept out of training, to read and to reconstruct.

    Args:
        joined: the sources that the dictionary was trained on.
        connection: the columns that it reads and those that it reconstructs.
        holdout: ``TrainConfig.holdout`` of the dictionary's training.
        batch_rows: most rows per batch; the last may be shorter.
        max_rows: yield at most so many rows, evenly spread over those kept out; None: all.
        finite_only: leave out rows that hold NaN or infinity.

    Yields:
        Batches, in the order of the first recording.
    """
    held = ~_split(joined.reader, holdout) & joined.present
    for batch in _numbers_of(held, batch_rows, max_rows):
        every = range(len(joined.sources))
        parts = [as_tensor(joined.take(place, batch)).to(torch.float32) for place in every]
        side = torch.cat(parts, 1)
        if finite_only:
            side = side[torch.isfinite(side).all(1)]
        reads, writes = (
            side[:, part.start : part.stop].contiguous()
            for part in (connection.reads, connection.writes)
        )
        yield HeldOutPair(reads, writes)


def held_out_batches(
    reader: RecordingReader,
    site: str,
    *,
    holdout: float,
    batch_rows: int = 4096,
    max_rows: int | None = None,
    steps: Sequence[int] | None = None,
) -> Iterator[HeldOutRows]:
    """Yield the rows that were kept out of training, in the order of the recording.

    Args:
        reader: reads one revision of the recording that the dictionary was trained on.
        site: name of the site to read.
        holdout: ``TrainConfig.holdout`` of the dictionary's training. Another value yields rows
            that it was trained on.
        batch_rows: most rows per batch; the last may be shorter.
        max_rows: yield at most so many rows, evenly spread over those kept out; None: all.
        steps: the training steps whose rows are taken; None: the one that the recording has.

    Yields:
        Batches ``[rows, width]``, float32.
    """
    kept_out = ~_split(reader, holdout) & rows_at(reader, steps)
    for batch in _numbers_of(kept_out, batch_rows, max_rows):
        yield as_tensor(reader.take(site, batch)).to(torch.float32)


def _numbers_of(
    marked: NDArray[np.bool_], batch_rows: int, max_rows: int | None
) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of marked rows in batches; of at most ``max_rows``, evenly spread."""
    rows = np.flatnonzero(marked).astype(np.int64)
    if max_rows is not None:
        rows = spread(rows, max_rows)
    for start in range(0, len(rows), batch_rows):
        yield rows[start : start + batch_rows]


def spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return at most ``count`` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return rows[np.arange(count, dtype=np.int64) * len(rows) // count]


def _refuse_non_finite(rows: Tensor, indices: NDArray[np.int64], site: str) -> None:
    finite = torch.isfinite(rows)
    if not bool(finite.all()):
        bad = (~finite.all(dim=1)).nonzero()
        count = "" if len(bad) == 1 else f", as do {len(bad) - 1} others of {len(rows)}"
        raise NonFiniteRows(
            f"row {int(indices[int(bad[0, 0])])} of site {site!r} holds NaN or infinity{count}; "
            f"wanted finite activations: {NON_FINITE_REMEDY}"
        )


def _prefetched(
    batches: Iterator[TrainingBatch], depth: int
) -> Generator[TrainingBatch, None, None]:
    """Run an iterator in a thread, ``depth`` items ahead; its errors come out in their place."""
    if depth < 1:
        yield from batches
        return
    ready: queue.Queue[TrainingBatch | BaseException | None] = queue.Queue(depth)
    ended = threading.Event()

    def put(item: TrainingBatch | BaseException | None) -> None:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=_WAIT_S)
                return

    def fill() -> None:
        try:
            for batch in batches:
                put(batch)
                if ended.is_set():
                    return
            put(None)
        except BaseException as error:  # raised again where the batch was due
            put(error)

    thread = threading.Thread(target=fill, name="isogloss-rows", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ended.set()
        thread.join()
