"""The tables of ids that are followed: those that a model reads, and the same in other orders."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.models.passes.axes.labels import UNKNOWN, Label
from isogloss.models.passes.inputs import same

Places = tuple[int | None, int | None]
"""Axis of the sequences and axis of the tokens; None: of size 1, where it makes no difference."""

NONE = -1
"""Stands for a place at which there is no id: what a model put before, between or behind them."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelTable:
    """Ids that rows are of."""

    ids: Tensor
    """``[a, b]``; -1 where there is none."""
    origin: int
    """The number of the table that they were taken from; its own where they were read so."""
    places: Tensor
    """Where each id stands in that one, counted through its rows, ``[a, b]``; -1 where there is
    none."""
    varies: bool
    """Whether numbers decided the order, so that it may be another one in the next pass."""


class Tables:
    """All tables of one pass, by their numbers."""

    def __init__(self) -> None:
        self._all: list[LabelTable] = []

    def __getitem__(self, number: int) -> LabelTable:
        return self._all[number]

    def read(self, ids: Tensor) -> int:
        """Return the number of ids that the model reads, ``[a, b]``, which nothing changes."""
        places = torch.arange(ids.numel(), device=ids.device).reshape(ids.shape)
        self._all.append(LabelTable(ids, len(self._all), places, varies=False))
        return len(self._all) - 1

    def ordered(self, number: int, places: Tensor, *, varies: bool = False) -> int:
        """Return the number of the ids that stand at some places of a table's origin.

        Args:
            number: of the table.
            places: in its origin, ``[a, b]``.
            varies: whether numbers decided these.
        """
        origin = self._all[number].origin
        varies |= self._all[number].varies
        for i, table in enumerate(self._all):
            if table.origin == origin and table.varies == varies and same(table.places, places):
                return i
        ids = self._all[origin].ids.reshape(-1)
        ids = ids[places.clamp(min=0)].masked_fill(places == NONE, NONE)
        self._all.append(LabelTable(ids, origin, places, varies))
        return len(self._all) - 1

    def taken(self, number: int, axis: int, index: Sequence[int]) -> int:
        """Return the number of some of the ids of a table, in an order.

        Args:
            number: of the table.
            axis: along which they are taken.
            index: which ones; -1 for none.
        """
        places = self._all[number].places
        if [*index] == [*range(places.shape[axis])]:
            return number
        chosen = torch.tensor([*index], device=places.device, dtype=torch.int64)
        found = places.index_select(axis, chosen.clamp(min=0))
        is_none = (chosen == NONE).reshape((-1, 1) if axis == 0 else (1, -1))
        return self.ordered(number, found.masked_fill(is_none, NONE))

    def is_displaced(self, number: int, axis: int) -> bool:
        """Return whether ids of a table stand elsewhere along an axis than where they were read."""
        table = self._all[number]
        size = max(1, self._all[table.origin].places.shape[1])
        found = table.places // size if axis == 0 else table.places % size
        shape = (-1, 1) if axis == 0 else (1, -1)
        wanted = torch.arange(found.shape[axis], device=found.device).reshape(shape)
        return bool(((found != wanted) & (table.places != NONE)).any())

    def of(self, ids: Tensor) -> set[int]:
        """Return the numbers of the tables of some ids: those in the order in which they
        were read, if there are any."""
        found = {i for i, table in enumerate(self._all) if same(table.ids, ids)}
        return {i for i in found if self._is_read(i)} or found

    def _is_read(self, number: int) -> bool:
        table = self._all[number]
        return same(table.places, self._all[table.origin].places)


@dataclass(frozen=True, slots=True, eq=False)
class TracedAxes:
    """What was followed to the output of a site."""

    labels: tuple[Label | None, ...]
    """Which axis of ids each axis of the output is."""
    shape: tuple[int, ...]
    """Of the output."""
    tables: Tables
    """The ids, by the number in labels."""
    lost: str = ""
    """The operation behind which axes of ids are not known any more; empty: none was seen."""

    def places(self, ids: Tensor, *, is_turned: bool) -> Places | None:
        """Return where the sequences and tokens of some ids are; None: that is not told.

        Args:
            ids: ``[sequences, tokens]``, or turned.
            is_turned: whether they are ``[tokens, sequences]``.
        """
        own, found = self.tables.of(ids), list[int | None]()
        if not self._of & own:
            return None
        for axis in (1, 0) if is_turned else (0, 1):
            at = [i for i, label in enumerate(self.labels) if _is_of(label, axis, own)]
            if len(at) != 1 and ids.shape[axis] != 1:
                return None
            found.append(at[0] if len(at) == 1 and ids.shape[axis] != 1 else None)
        return found[0], found[1]

    def is_of_others(self, ids: Tensor) -> bool:
        """Return whether the output is certainly of other ids than these."""
        return self._are_others(self.tables.of(ids))

    def is_moved_from(self, some: Sequence[Tensor]) -> bool:
        """Return whether the output has rows of some ids, certainly at other places.

        Args:
            some: the ids that it may be of, each ``[a, b]``.
        """
        own = set[int]().union(*map(self.tables.of, some))
        named = {label.axis for label in self.labels if label}
        return self._are_others(own) and any(
            self.tables[one].origin in own
            and (len(named) == 2 or any(self.tables.is_displaced(one, axis) for axis in named))
            for one in self._of
        )

    def varies(self, some: Sequence[Tensor]) -> bool:
        """Return whether rows of some ids are in their order by the numbers of this pass alone.

        Args:
            some: the ids that they may be of, each ``[a, b]``.
        """
        own = self._of & set[int]().union(*map(self.tables.of, some))
        return bool(own) and all(self.tables[one].varies for one in own)

    @property
    def _of(self) -> frozenset[int]:
        return frozenset[int]().union(*(label.tables for label in self.labels if label))

    def _are_others(self, own: set[int]) -> bool:
        return bool(self._of) and UNKNOWN not in self._of and not self._of & own


def _is_of(label: Label | None, axis: int, tables: set[int]) -> bool:
    return label is not None and label.axis == axis and bool(label.tables & tables)


__all__ = ["NONE", "LabelTable", "Places", "Tables", "TracedAxes"]
