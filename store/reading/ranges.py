"""Rows in the order of the recording, some at a time, with their tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

from isogloss.short_repr import short_repr
from isogloss.store.schema.batch import TokenColumns
from isogloss.store.schema.recording_spec import Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeBatch:
    """Rows that follow one another."""

    start: int
    """Number of the first row in the recording."""

    sites: Mapping[str, Rows]
    """Activations by site, ``[rows, width]``."""

    tokens: TokenColumns
    """Their tokens, documents and positions."""

    __repr__ = short_repr

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.tokens.rows
