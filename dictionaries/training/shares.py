"""The rows of a step, read in parts by several ranks and put together on each."""

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial

import torch

from isogloss.dictionaries.rows.batches import TrainingBatch, joined_batches
from isogloss.dictionaries.rows.measure import Measured
from isogloss.dictionaries.training.plan import TrainPlan
from isogloss.dictionaries.training.ranks import RankGroup
from isogloss.errors import IsoglossError
from isogloss.kernels import parts_of

_DIGIT_BYTES = 4 * 256 * 8


def readers_of(batch_rows: int, world: int) -> int:
    """Return how many ranks read: as many as share the rows of a step evenly.

    The others read nothing; they encode their part of the rows as all do.
    """
    return next(count for count in range(world, 0, -1) if batch_rows % count == 0)


def step_bytes(
    *,
    batch_rows: int,
    width: int,
    world: int,
    k: int = 0,
    aux_k: int = 0,
    entries: int | None = None,
    over_batch: bool = False,
    has_hint: bool = True,
) -> int:
    """Return the bytes of the tensors that each rank hands to collectives in one step.

    With B rows of ``width`` columns, n ranks of which m read, and p = the rows that the first rank
    encodes (B / n, rounded up to a multiple of 16)::

        8                    whether to stop
        24                   whether reading failed, how many rows are kept and left out
        4 (width + 1) B / m  rows, and whether each is usual
        8 k p                value and feature of each entry, of k a row
        8 aux_k p            the same of AuxK, where more than 4 aux_k features are dead

    Where rows differ in their number of entries, with e the most entries of a part, instead of
    ``8 k p``: ``4 p`` for their numbers and ``8 e``; and for a choice over the batch 16 to count
    its entries (8 in the first step), 8192 for histograms, 8 for ties.

    Neither the number of features nor the size of the weights appears: a sum of gradients would
    take ``8 features width``.

    Args:
        batch_rows: rows of a step; none of them left out.
        width: columns of all sites.
        world: number of ranks.
        k: entries of each row; 0 where rows differ in their number.
        aux_k: dead features that AuxK uses on a row of this step; 0 for up to four times as many
            dead ones, which each rank takes whole on its own.
        entries: most entries of one part, where rows differ in their number.
        over_batch: whether they were chosen over the batch.
        has_hint: whether that choice began with the last step's.
    """
    part = parts_of(batch_rows, world)[0]
    own = part.stop - part.start
    found = 8 + 24 + 4 * (width + 1) * (batch_rows // readers_of(batch_rows, world))
    found += 8 * own * (k + aux_k)
    if entries is not None:
        found += 4 * own + 8 * entries
    if over_batch:
        found += (16 if has_hint else 8) + _DIGIT_BYTES + 8
    return found


def shared_batches(
    plan: TrainPlan, measured: Measured, ranks: RankGroup, *, start_step: int, stop_step: int
) -> Generator[TrainingBatch, None, None]:
    """Yield the batches of a run on every rank, each row read by one of them.

    The batch of a step is that of one process, in its order, cut by rank.

    Args:
        plan: the run.
        measured: what is known of its rows.
        ranks: the ranks.
        start_step: the first step to yield.
        stop_step: step after the last one.

    Yields:
        The whole batch of each step.

    Raises:
        NonFiniteRows: a rank read NaN or infinity.
    """
    readers = readers_of(plan.derived.batch_rows, ranks.world)
    if ranks.rank < readers:
        own = joined_batches(
            plan.joined,
            scales=measured.scales,
            seed=plan.rows_seed,
            batch_rows=plan.derived.batch_rows,
            keep=plan.keep,
            start_step=start_step,
            stop_step=stop_step,
            usual=measured.usual,
            leave_out=measured.leave_out,
            finite_only=plan.config.leave_out.non_finite,
            rank=ranks.rank,
            world=readers,
        )
    else:
        own = _nothing(sum(plan.joined.widths), start_step, stop_step)
    with closing(own):
        if ranks.world == 1:
            yield from own
            return
        for step in range(start_step, stop_step):
            yield _whole(ranks, partial(next, own), step)


def _nothing(width: int, start: int, stop: int) -> Generator[TrainingBatch, None, None]:
    for step in range(start, stop):
        yield TrainingBatch(step=step, rows=torch.empty(0, width))


def _whole(ranks: RankGroup, read: Callable[[], TrainingBatch], step: int) -> TrainingBatch:
    """Return the rows of a step of all ranks."""
    batch, failed = TrainingBatch(step=step, rows=torch.empty(0, 1)), None
    try:
        batch = read()
    except IsoglossError as error:  # the others wait to hear of it
        failed = error
    told = torch.tensor([[int(failed is not None), len(batch.rows), batch.left_out]])
    every = ranks.together(told, [1] * ranks.world)
    if bool(every[:, 0].any()):
        ranks.agree(partial(_raise, failed))
    usual = torch.ones(len(batch.rows), 1)
    if batch.usual is not None:
        usual[:, 0] = torch.from_numpy(batch.usual)
    rows = ranks.together(torch.cat((batch.rows, usual), 1), every[:, 1].tolist())
    is_usual = rows[:, -1] > 0
    return TrainingBatch(
        step=step,
        rows=rows[:, :-1].contiguous(),
        usual=None if bool(is_usual.all()) else is_usual.numpy(),
        left_out=int(every[:, 2].sum()),
    )


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error
    return
