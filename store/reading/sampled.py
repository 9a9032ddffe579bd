"""Structured sampling: the units of each step of an epoch, with their rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr
from isogloss.store.reading.draws import Draws
from isogloss.store.reading.sampling import Sampling
from isogloss.store.reading.shuffle_order import WINDOW_ROWS, ShuffleOrder
from isogloss.store.reading.shuffled import RowSource, ShuffledBatch, ShuffledReading
from isogloss.store.reading.units import Units
from isogloss.store.schema.recording_spec import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledBatch:
    """One step of structured sampling."""

    step: int
    """Place in the epoch, from 0."""

    rows: NDArray[np.int64]
    """Numbers of the rows in the recording, ``[units, length]``."""

    sites: Mapping[str, Rows]
    """Activations by site, ``[units, length, width]``."""

    __repr__ = short_repr


class SampledReading:
    """Reads the units of a pinned revision, epoch by epoch.

    Returned by :meth:`RecordingReader.sampled`, which has found the units.

    Args:
        source: reads the rows.
        sampling: what a unit is.
        units: where they are.
        drawn: the units that are drawn once an epoch, ascending, or all by weight; None: each once.
    """

    def __init__(
        self,
        source: RowSource,
        sampling: Sampling,
        units: Units,
        drawn: Draws | NDArray[np.int64] | None,
    ) -> None:
        self.sampling = sampling
        """What is drawn."""
        self._source = source
        self._units = units
        self._draws = drawn if isinstance(drawn, Draws) else None
        self._chosen = None if isinstance(drawn, Draws) else drawn

    @property
    def units(self) -> int:
        """Draws of an epoch: its units, each once, where there are no weights."""
        if self._draws is not None:
            return self._draws.count
        return self._units.count if self._chosen is None else len(self._chosen)

    def steps_per_epoch(self, batch_units: int, world: int = 1) -> int:
        """Return how many steps :meth:`batches` yields for the same arguments."""
        return self._order(0, 0, batch_units, 0, world).steps

    def batches(
        self,
        sites: Sequence[str],
        *,
        seed: int,
        epoch: int,
        batch_units: int,
        block_rows: int = 32,
        window_rows: int = WINDOW_ROWS,
        start_step: int = 0,
        every: int = 1,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 1,
        mapped: bool = True,
    ) -> Iterator[SampledBatch]:
        """Yield the batches of one epoch in shuffled order.

        The order depends on seed, epoch and step alone: reading from ``start_step`` on gives the
        same remaining batches. The last units, if they fill no whole step, are left out.

        Args:
            sites: names of the sites to read together.
            seed: seed of the order, and of the draws by weight.
            epoch: number of the epoch; each has another order.
            batch_units: units of a batch of this rank.
            block_rows: rows that stay together on disk.
            window_rows: number of rows that are mixed with one another, see
                :meth:`RecordingReader.shuffled`.
            start_step: the step to begin with.
            every: yield each so many-th step only, from ``start_step`` on.
            rank: number of the share of each step to read, from 0.
            world: number of shares, each of ``batch_units`` units, of a step.
            prefetch: how many batches (windows where not mapped) a thread reads ahead; may be 0.
            mapped: map files into memory where possible, see :meth:`RecordingReader.shuffled`.

        Returns:
            An iterator over the batches, in the order of their steps.

        Raises:
            NotFound: the recording has no such site.
            InvalidInput: a size or the rank is out of range.
        """
        order = SampledOrder(
            order=self._order(seed, epoch, batch_units, rank, world, block_rows, window_rows),
            units=self._units,
            draws=self._draws,
            length=self.sampling.length,
        )
        reading = ShuffledReading(self._source, order, sites, start_step, every)
        return map(self._grouped, reading.batches(prefetch, mapped=mapped))

    def _grouped(self, batch: ShuffledBatch) -> SampledBatch:
        length = self.sampling.length
        units = len(batch.rows) // length
        return SampledBatch(
            step=batch.step,
            rows=batch.rows.reshape(units, length),
            sites={
                site: rows.reshape(units, length, rows.shape[1])
                for site, rows in batch.sites.items()
            },
        )

    def _order(
        self,
        seed: int,
        epoch: int,
        batch_units: int,
        rank: int,
        world: int,
        block_rows: int = 32,
        window_rows: int = WINDOW_ROWS,
    ) -> ShuffleOrder:
        if min(block_rows, window_rows) < 1:
            raise InvalidInput(
                f"block_rows {block_rows} and window_rows {window_rows} must be at least 1"
            )
        return ShuffleOrder(
            rows=self._chosen,
            count=self.units,
            seed=seed,
            epoch=epoch,
            batch_rows=batch_units,
            block_rows=max(1, block_rows // self.sampling.stride),
            window_rows=max(1, window_rows // self.sampling.length),
            rank=rank,
            world=world,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampledOrder:
    """The rows of each step, those of a unit behind one another."""

    order: ShuffleOrder
    """The order of the units, or of the draws."""

    units: Units
    """The rows of each unit."""

    draws: Draws | None
    """The unit of each draw; None: draw i is unit i."""

    length: int
    """Rows of a unit."""

    @property
    def batch_rows(self) -> int:
        """Rows of one batch of one rank."""
        return self.order.batch_rows * self.length

    @property
    def window_rows(self) -> int:
        """Rows that are mixed with one another."""
        return self.order.window_rows * self.length

    def step_rows(self, start_step: int) -> Iterator[NDArray[np.int64]]:
        """Yield the rows that this rank reads in each step, ``[batch_rows]``."""
        for drawn in self.order.step_rows(start_step):
            units = drawn
            if self.draws is not None:
                units = self.draws.units(drawn, self.order.seed, self.order.epoch)
            yield self.units.rows(units).reshape(-1)
