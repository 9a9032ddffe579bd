"""Rows of a recording as a ``torch.utils.data.IterableDataset``, for any training loop."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from isogloss.dictionaries.rows.batches import as_tensor
from isogloss.errors import Conflict, InvalidInput, ShapeError
from isogloss.short_repr import short_repr
from isogloss.store import RecordingReader, SampledBatch, SampledReading, Sampling, ShuffledBatch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TensorBatch:
    """The rows of one step of one rank. Each leading shape is ``[batch_rows]``, or ``[batch_rows,
    length]`` where a sampling groups ``length`` rows into a unit."""

    seed: int
    """Seed of the order."""

    epoch: int
    """Epoch of the batch, from 0."""

    step: int
    """Its place in the epoch, from 0."""

    rows: Tensor
    """Numbers of the rows in the recording, int64."""

    sites: Mapping[str, Tensor]
    """Activations by site, ``[..., width]``, in the dtype in which they were recorded."""

    tokens: Mapping[str, Tensor]
    """The token columns asked for, by name, int64; ``span`` is ``[..., 2]``. Ids of documents
    have the 64 bits that they have as unsigned numbers."""

    __repr__ = short_repr

    @property
    def state(self) -> dict[str, int]:
        """What :meth:`RowDataset.load_state_dict` takes to go on behind this batch."""
        return {"seed": self.seed, "epoch": self.epoch, "step": self.step + 1}

    def pin_memory(self) -> "TensorBatch":
        """Return the batch in page-locked memory; ``DataLoader(pin_memory=True)`` calls it."""
        return replace(
            self,
            rows=self.rows.pin_memory(),
            sites={name: found.pin_memory() for name, found in self.sites.items()},
            tokens={name: found.pin_memory() for name, found in self.tokens.items()},
        )


def _keep(
    reader: RecordingReader, keep: NDArray[np.bool_] | None, steps: Sequence[int] | None
) -> NDArray[np.bool_] | None:
    """Return which rows to visit; None: all."""
    if steps is None and keep is not None:
        return keep
    chosen = reader.chosen_steps(steps)
    if len(chosen) == len(reader.rows_of_steps()):
        return keep
    marked = reader.keep_steps(chosen)
    if keep is not None and keep.shape != marked.shape:
        raise ShapeError(f"keep is {list(keep.shape)}, wanted {list(marked.shape)}")
    return marked if keep is None else marked & keep


class RowDataset(IterableDataset[TensorBatch]):
    """Batches of rows in shuffled order, for ``torch.utils.data.DataLoader``.

    It yields whole batches: use :meth:`loader`, or ``DataLoader(dataset, batch_size=None,
    num_workers=..., multiprocessing_context="spawn")``. Workers must be spawned or come from a fork
    server: a fork of a process that ran numba aborts, and is refused here.

    The batches are those of seed, epoch and step, whatever the number of workers; each is read by
    one worker, which opens the store by its address and reads the same revision. Ranks get shares
    of each step that do not overlap, and need not talk. Each pass begins at the state that was
    loaded or set last, by default at the beginning of epoch 0: call :meth:`set_epoch` before each
    pass, as with ``DistributedSampler``.
    """

    def __init__(
        self,
        reader: RecordingReader,
        sites: Sequence[str],
        *,
        batch_rows: int,
        seed: int = 0,
        epochs: int | None = 1,
        sampling: Sampling | None = None,
        keep: NDArray[np.bool_] | None = None,
        steps: Sequence[int] | None = None,
        columns: Sequence[str] = (),
        rank: int | None = None,
        world: int | None = None,
        mapped: bool = True,
    ) -> None:
        """Read rows of one revision.

        Args:
            reader: the recording, pinned by its revision.
            sites: names of the sites to read together.
            batch_rows: rows of a batch of one rank; with ``sampling``, its units.
            seed: seed of the order.
            epochs: epochs of one pass, from the one in which it begins; None: without end.
            sampling: windows, pairs, strata or weights; None: each row once.
            keep: bool ``[rows]``, the rows to visit, such as of ``training_rows``; None: all.
            steps: the training steps whose rows are visited, of those that ``keep`` marks. None:
                the one that the recording has; with ``keep``, those of the rows that it marks.
            columns: token columns to yield with the rows: ``token_id``, ``document``, ``position``,
                ``span``. Each process that reads holds them in memory, 4 or 8 bytes a row.
            rank: which share of each step to read. None: that of ``torch.distributed`` where it was
                initialised, else of the environment variable RANK (torchrun sets it), else 0.
            world: number of shares; with ``rank`` or not at all.
            mapped: map files into memory where possible, see ``RecordingReader.shuffled``.

        Raises:
            InvalidInput: a size is below 1, only one of ``rank`` and ``world`` is given, or there
                are several training steps and neither ``steps`` nor ``keep`` says which to read.
            NotFound: the recording has no such site or column.
            ShapeError: ``keep`` or weights have another length than the revision.
        """
        super().__init__()
        if batch_rows < 1 or (epochs is not None and epochs < 1):
            raise InvalidInput(f"batch_rows {batch_rows} and epochs {epochs} must be at least 1")
        if (rank is None) != (world is None):
            raise InvalidInput(f"rank is {rank} and world is {world}: give both or neither")
        self._given_share = None if rank is None or world is None else (rank, world)
        self._reader = reader
        self._sites = tuple(sites)
        self._columns = tuple(columns)
        self._batch_rows = batch_rows
        self._epochs = epochs
        self._sampling = sampling
        self._keep = _keep(reader, keep, steps)
        self._mapped = mapped
        self._begin()
        # seed, epoch, step, and how often they were set; workers that live on see it change
        self._start = torch.tensor([seed, 0, 0, 0], dtype=torch.int64).share_memory_()
        self._own_start: tuple[int, int, int, int] | None = None
        self._check_names()

    def _begin(self) -> None:
        """Set what holds in this process only."""
        self._process = os.getpid()
        self._plan: SampledReading | None = None
        self._reached: dict[str, int] | None = None
        self._is_handed_out = False

    def _check_names(self) -> None:
        for site in self._sites:
            self._reader.spec.site_index(site)
        for name in self._columns:
            self._reader.check_column(name)
        self.steps_per_epoch  # noqa: B018 - it checks keep, sampling and the share

    def __getstate__(self) -> dict[str, object]:
        self._is_handed_out = True
        state = self.__dict__.copy()
        state["_given_share"] = self._share()  # a worker has no process group
        for name in ("_process", "_plan", "_reached", "_is_handed_out"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _share(self) -> tuple[int, int]:
        """Return rank and world."""
        if self._given_share is not None:
            return self._given_share
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        found = [os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")]
        if not all(text.isdecimal() for text in found):
            raise InvalidInput(
                f"the environment variables RANK and WORLD_SIZE are {found}, wanted two numbers: "
                "give rank= and world="
            )
        return int(found[0]), int(found[1])

    @property
    def steps_per_epoch(self) -> int:
        """Batches that each rank gets in an epoch."""
        _, world = self._share()
        if self._sampling is not None:
            return self._sampled().steps_per_epoch(self._batch_rows, world)
        return self._reader.steps_per_epoch(self._batch_rows, self._keep, world)

    def _sampled(self) -> SampledReading:
        if self._plan is None:
            self._plan = self._reader.sampled(self._sampling or Sampling(), keep=self._keep)
        return self._plan

    def loader(self, *, workers: int = 0, pin_memory: bool = False) -> DataLoader[TensorBatch]:
        """Return a ``DataLoader`` of these batches.

        Args:
            workers: how many processes read, spawned; with 0 this one does.
            pin_memory: whether batches come in page-locked memory.

        Returns:
            The loader. Its workers live from pass to pass.
        """
        return DataLoader(
            self,
            batch_size=None,
            num_workers=workers,
            pin_memory=pin_memory,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
        )

    def state_dict(self) -> dict[str, int]:
        """Return seed, epoch and step of the batch that comes next, to go on there later.

        Raises:
            Conflict: other processes read the batches, and this one cannot know how many of them
                were used: take :attr:`TensorBatch.state` of the last one that was.
        """
        if self._is_handed_out:
            raise Conflict(
                "the batches are read in worker processes, ahead of their use: save `batch.state` "
                "of the last batch that was used instead"
            )
        seed, epoch, step = self._first()
        return self._reached or {"seed": seed, "epoch": epoch, "step": step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next pass begin at a state; all else should be as it was when it was taken.

        Args:
            state: from :meth:`state_dict` or :attr:`TensorBatch.state`.

        Raises:
            InvalidInput: it does not hold the three integers.
        """
        try:
            seed, epoch, step = (int(state[name]) for name in ("seed", "epoch", "step"))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"state {state!r} must hold the integers seed, epoch and step"
            ) from error
        if min(epoch, step) < 0:
            raise InvalidInput(f"epoch {epoch} and step {step} must be at least 0")
        version = int(self._start[3])
        if get_worker_info() is None:
            self._start.copy_(torch.tensor([seed, epoch, step, version + 1]))
        else:  # what a loader that keeps the state of each worker gives back to one of them
            self._own_start = (seed, epoch, step, version)
        self._reached = None
        self._is_handed_out = False

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass begin at the beginning of an epoch.

        Args:
            epoch: from 0; each has another order.

        Raises:
            InvalidInput: ``epoch`` is negative.
        """
        self.load_state_dict({"seed": int(self._start[0]), "epoch": epoch, "step": 0})

    def _first(self) -> tuple[int, int, int]:
        """Return seed, epoch and step at which a pass begins."""
        seed, epoch, step, version = (int(number) for number in self._start)
        if self._own_start is not None and self._own_start[3] == version:
            seed, epoch, step, _ = self._own_start
        return seed, epoch, step

    def __iter__(self) -> Iterator[TensorBatch]:
        if os.getpid() != self._process:
            raise InvalidInput(
                f"process {os.getpid()} is a fork of {self._process}, in which this data set was "
                'made: give DataLoader multiprocessing_context="spawn" or "forkserver", or use '
                "RowDataset.loader"
            )
        steps = self.steps_per_epoch
        if steps < 1:
            raise InvalidInput(
                f"recording {self._reader.spec.recording!r} has fewer rows to visit than fill one "
                f"step of batch_rows {self._batch_rows} on each rank: lower batch_rows"
            )
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        self._is_handed_out = False
        seed, epoch, step = self._first()
        begin = epoch * steps + step
        stop = None if self._epochs is None else (begin // steps + self._epochs) * steps
        at = begin + number
        while stop is None or at < stop:
            epoch, first = divmod(at, steps)
            for batch in self._read(seed, epoch, first, workers):
                at = epoch * steps + batch.step + workers
                # counted back to worker 0: a worker that begins there comes to its own next step
                self._reach(seed, at - number, steps)
                yield self._tensors(batch, seed, epoch)
        self._reach(seed, stop, steps)

    def _reach(self, seed: int, at: int, steps: int) -> None:
        epoch, step = divmod(at, steps)
        self._reached = {"seed": seed, "epoch": epoch, "step": step}

    def _read(
        self, seed: int, epoch: int, first: int, every: int
    ) -> Iterator[ShuffledBatch] | Iterator[SampledBatch]:
        """Yield every so many-th batch of this rank in an epoch, from a step on."""
        rank, world = self._share()
        if self._sampling is not None:
            return self._sampled().batches(
                self._sites,
                seed=seed,
                epoch=epoch,
                batch_units=self._batch_rows,
                start_step=first,
                every=every,
                rank=rank,
                world=world,
                mapped=self._mapped,
            )
        return self._reader.shuffled(
            self._sites,
            seed=seed,
            epoch=epoch,
            batch_rows=self._batch_rows,
            keep=self._keep,
            start_step=first,
            every=every,
            rank=rank,
            world=world,
            mapped=self._mapped,
        )

    def _tensors(self, batch: ShuffledBatch | SampledBatch, seed: int, epoch: int) -> TensorBatch:
        columns = {name: self._reader.column(name)[batch.rows] for name in self._columns}
        return TensorBatch(
            seed=seed,
            epoch=epoch,
            step=batch.step,
            rows=as_tensor(batch.rows),
            sites={site: as_tensor(rows) for site, rows in batch.sites.items()},
            tokens={
                name: torch.from_numpy(found.astype(np.int64)) for name, found in columns.items()
            },
        )
