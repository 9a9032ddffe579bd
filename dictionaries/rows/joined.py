"""Rows of several sites side by side, of one recording or of several that are aligned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.dictionaries.rows.source import Source
from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr
from isogloss.store import RecordingReader


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SourceRows:
    """The rows that all sources have, counted as the recording of the first source counts them."""

    sources: tuple[Source, ...]
    """The sites, in the order in which their columns lie side by side."""
    numbers: tuple[NDArray[np.int64] | None, ...]
    """For each source, the number in its own recording of each row of the first; -1 where it lacks
    the row. None: the same number, since it is of the first recording."""
    present: NDArray[np.bool_]
    """Rows of the first recording that all others have too, at the training steps that are read."""
    steps: tuple[tuple[int, ...], ...]
    """For each source the training steps whose rows are read, ascending."""

    __repr__ = short_repr

    @property
    def reader(self) -> RecordingReader:
        """The first recording."""
        return self.sources[0].reader

    @property
    def name(self) -> str:
        """Names of the sites, for messages."""
        return ", ".join(source.site for source in self.sources)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the sites."""
        return tuple(source.width for source in self.sources)

    def take(self, source: int, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Return rows of one source, ``[n, width]``, by their numbers in the first recording."""
        own, numbers = self.sources[source], self.numbers[source]
        return own.reader.take(own.site, rows if numbers is None else numbers[rows])


def join_rows(sources: Sequence[Source], steps: Sequence[int] = ()) -> SourceRows:
    """Put the rows of sources side by side.

    Rows of different recordings are one where document and position are the same. They have to be
    of one token: documents are known by their text, so two tokenizers that cut a text otherwise
    would join rows of different tokens.

    Args:
        sources: at least one; each of any recording.
        steps: training steps whose rows are read; of several recordings each is read at those that
            it has. None named: the one that the recording has.

    Returns:
        The rows; for sources of one recording all of them at these steps.

    Raises:
        InvalidInput: there is no source; a recording has rows of several training steps and none is
            named, or none of those that are; a recording has a position of a document twice; joined
            rows are of different tokens, or there are none.
    """
    if not sources:
        raise InvalidInput("there are 0 sources; wanted at least one site")
    first = sources[0].reader
    several = len({source.reader.revision.id for source in sources}) > 1
    chosen = {
        source.reader.revision.id: _steps(source.reader, steps, several=several)
        for source in sources
    }
    present = rows_of(first, chosen[first.revision.id])
    known: dict[str, NDArray[np.int64] | None] = {first.revision.id: None}
    for source in sources[1:]:
        own = source.reader.revision.id
        if own not in known:
            theirs = np.flatnonzero(rows_of(source.reader, chosen[own]))
            numbers = _numbers(first, np.flatnonzero(present), source.reader, theirs)
            present &= numbers >= 0
            known[own] = numbers
    if not present.any() and first.rows:
        names = ", ".join(sorted({source.reader.spec.recording for source in sources}))
        raise InvalidInput(f"recordings {names} share no document; wanted recordings of one corpus")
    return SourceRows(
        sources=tuple(sources),
        numbers=tuple(known[source.reader.revision.id] for source in sources),
        present=present,
        steps=tuple(chosen[source.reader.revision.id] for source in sources),
    )


def _steps(reader: RecordingReader, steps: Sequence[int], *, several: bool) -> tuple[int, ...]:
    known = reader.rows_of_steps() if several else {}
    here = [step for step in steps if step in known]
    return reader.chosen_steps(here or steps or None)


def rows_of(reader: RecordingReader, steps: Sequence[int]) -> NDArray[np.bool_]:
    """Mark the rows of training steps that were chosen, bool ``[rows]``; none chosen: all rows."""
    return reader.keep_steps(steps) if steps else np.ones(reader.rows, dtype=np.bool_)


def _numbers(
    first: RecordingReader,
    mine_read: NDArray[np.int64],
    other: RecordingReader,
    theirs_read: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return for each row of the first recording its number in the other, -1 where it has none.

    Args:
        first: the first recording.
        mine_read: numbers of its rows that are read.
        other: the other one.
        theirs_read: numbers of its rows that are read.

    Raises:
        InvalidInput: a recording has a position of a document twice, or a position is out of range;
            or rows that are joined are of different tokens.
    """
    a, b = first.tokens(), other.tokens()
    documents = np.concatenate([a.document[mine_read], b.document[theirs_read]])
    position = np.concatenate([a.position[mine_read], b.position[theirs_read]]).astype(np.int64)
    keys, dense = np.unique(documents, return_inverse=True)
    most = 1 + int(position.max(initial=0))
    if len(keys) * most >= 2**62:
        raise InvalidInput(f"a position is {most - 1}; wanted positions counted from 0")
    places = dense.reshape(-1).astype(np.int64) * most + position
    mine, theirs = places[: len(mine_read)], places[len(mine_read) :]
    _refuse_repeated(first, mine)
    _refuse_repeated(other, theirs)
    numbers = np.full(first.rows, -1, np.int64)
    order = np.argsort(theirs, kind="stable")
    found = np.searchsorted(theirs, mine, sorter=order)
    nearest = order[np.minimum(found, len(order) - 1)]
    same = theirs[nearest] == mine
    numbers[mine_read[same]] = theirs_read[nearest[same]]
    joined = np.flatnonzero(numbers >= 0)
    differing = a.token_id[joined] != b.token_id[numbers[joined]]
    if differing.any():
        row = int(joined[int(differing.argmax())])
        raise InvalidInput(
            f"document {int(a.document[row]):016x} has token {int(a.token_id[row])} at position "
            f"{int(a.position[row])} in recording {first.spec.recording!r} and "
            f"{int(b.token_id[numbers[row]])} in {other.spec.recording!r} (tokenizers "
            f"{first.spec.tokenizer!r} and {other.spec.tokenizer!r}): rows are joined token by "
            "token, so wanted recordings of one tokenizer"
        )
    return numbers


def _refuse_repeated(reader: RecordingReader, places: NDArray[np.int64]) -> None:
    if len(np.unique(places)) < len(places):
        raise InvalidInput(
            f"recording {reader.spec.recording!r} has rows of one document and position several "
            "times, such as of several training steps: name one step of each recording"
        )
