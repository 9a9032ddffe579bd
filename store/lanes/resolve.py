"""Find where the rows of a revision are now: in its lanes, or in lanes joined from these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isogloss.errors import CorruptData, InvalidInput, IsoglossError, NotFound
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.seal import read_seal
from isogloss.store.lanes.state import LaneState
from isogloss.store.schema.revision import Revision


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneRange:
    """Rows of one lane that follow one another."""

    lane: str
    """Name of the lane that holds them now."""

    first: int
    """The first of them in that lane."""

    rows: int
    """Number of rows."""

    documents: tuple[int, int] | None
    """The documents of these rows, as positions ``[start, stop)`` among the lane's; None for all.
    """

    is_sealed_lane: bool
    """Whether they are all rows of a sealed lane."""


def joined_names(files: FileSystem, lane: Path) -> frozenset[str] | None:
    """Return the names of the lanes that were joined into one; None while it is not sealed."""
    try:
        seal = read_seal(files, lane)
    except (IsoglossError, OSError):
        return None  # reading the lane itself reports what is wrong
    return None if seal is None else frozenset(part.lane for part in seal.parts)


def resolve(revision: Revision, states: Sequence[LaneState]) -> list[LaneRange]:
    """Return where the rows of a revision are now, in the revision's order.

    Args:
        revision: the revision.
        states: the lanes, without those that were joined into others.

    Returns:
        Ranges of rows. Ranges that follow one another in one lane are one.

    Raises:
        NotFound: the revision names a lane that was removed.
        CorruptData: the revision names more rows than are left of a lane that a disk damaged.
        InvalidInput: it names more rows than a lane that is whole has: no store gave it.
    """
    by_name = {state.name: state for state in states}
    joined = {
        part.lane: (part, state)
        for state in states
        if state.seal is not None and not state.is_direct
        for part in state.seal.parts
    }
    ranges: list[LaneRange] = []
    for name, rows in revision.lanes:
        if name in by_name:
            state, first, proven, documents = by_name[name], 0, by_name[name].rows, None
        elif name in joined:
            part, state = joined[name]
            first, proven = part.first_row, part.rows
            documents = (part.first_document, part.first_document + part.documents)
        else:
            raise _gone(revision, name)
        if state.is_retired or state.is_lost:
            raise _gone(revision, name)
        if rows > proven:
            raise _too_many(revision, name, rows, proven, state)
        found = LaneRange(
            lane=state.name,
            first=first,
            rows=rows,
            documents=documents,
            is_sealed_lane=state.seal is not None and rows == state.rows,
        )
        last = ranges.pop() if ranges else None
        ranges += [found] if last is None else _join(last, found, state)
    return ranges


def _gone(revision: Revision, name: str) -> NotFound:
    return NotFound(f"revision {revision.id} names lane {name!r}, which is gone: take a new one")


def _too_many(
    revision: Revision, name: str, rows: int, proven: int, state: LaneState
) -> CorruptData | InvalidInput:
    """Return the error for rows that a lane does not have: the disk's fault, or the caller's."""
    found = f"revision {revision.id} holds {rows} rows of lane {name!r}, which proves {proven}"
    if state.seal is not None and state.seal.damage:
        return CorruptData(f"{found}: it was cut after a disk failure ({state.seal.damage})")
    return InvalidInput(f"{found}, and is whole: give a revision as the store gave it")


def _join(one: LaneRange, two: LaneRange, state: LaneState) -> list[LaneRange]:
    """Return two ranges, as one where the second goes on where the first ends."""
    if one.lane != two.lane or one.first + one.rows != two.first:
        return [one, two]
    rows = one.rows + two.rows
    is_whole = rows == state.rows
    documents = None
    if not is_whole and one.documents is not None and two.documents is not None:
        documents = (one.documents[0], two.documents[1])
    return [replace(one, rows=rows, documents=documents, is_sealed_lane=is_whole)]
