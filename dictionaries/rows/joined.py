"""Rows of several sites side by side, of one recording or of several that are aligned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.dictionaries.rows.source import Source
from isogloss.errors import InvalidInput
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
    """Rows of the first recording that all others have too."""

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


def join_rows(sources: Sequence[Source]) -> SourceRows:
    """Put the rows of sources side by side.

    Rows of different recordings are one where document and position are the same. They have to be
    of one token: documents are known by their text, so two tokenizers that cut a text otherwise
    would join rows of different tokens.

    Args:
        sources: at least one; each of any recording.

    Returns:
        The rows; for sources of one recording all of them.

    Raises:
        InvalidInput: there is no source; a recording has a position of a document twice; joined
            rows are of different tokens, or there are none.
    """
    if not sources:
        raise InvalidInput("there are 0 sources; wanted at least one site")
    first = sources[0].reader
    present = np.ones(first.rows, dtype=np.bool_)
    known: dict[str, NDArray[np.int64] | None] = {first.revision.id: None}
    for source in sources[1:]:
        own = source.reader.revision.id
        if own not in known:
            numbers = _numbers(first, source.reader)
            present &= numbers >= 0
            known[own] = numbers
    if not present.any() and first.rows:
        names = ", ".join(sorted({source.reader.spec.recording for source in sources}))
        raise InvalidInput(f"recordings {names} share no document; wanted recordings of one corpus")
    return SourceRows(
        sources=tuple(sources),
        numbers=tuple(known[source.reader.revision.id] for source in sources),
        present=present,
    )


def _numbers(first: RecordingReader, other: RecordingReader) -> NDArray[np.int64]:
    """Return for each row of the first recording its number in the other, -1 where it has none."""
    a, b = first.tokens(), other.tokens()
    keys, dense = np.unique(np.concatenate([a.document, b.document]), return_inverse=True)
    most = 1 + max(int(a.position.max(initial=0)), int(b.position.max(initial=0)))
    if len(keys) * most >= 2**62:
        raise InvalidInput(f"a position is {most - 1}; wanted positions counted from 0")
    position = np.concatenate([a.position, b.position]).astype(np.int64)
    places = dense.reshape(-1).astype(np.int64) * most + position
    mine, theirs = places[: first.rows], places[first.rows :]
    for reader, own in ((first, mine), (other, theirs)):
        if len(np.unique(own)) < len(own):
            raise InvalidInput(
                f"recording {reader.spec.recording!r} has rows of one document and position "
                "several times, such as of several training steps: join recordings of one step"
            )
    order = np.argsort(theirs, kind="stable")
    found = np.searchsorted(theirs, mine, sorter=order)
    numbers = order[np.minimum(found, len(order) - 1)].astype(np.int64)
    numbers = np.where(theirs[numbers] == mine, numbers, -1)
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
