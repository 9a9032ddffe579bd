"""The state of a lane: the rows and batches that are committed in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from isogloss.errors import Conflict
from isogloss.short_repr import short_repr
from isogloss.store.lanes.seal import Seal


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneState:
    """The rows and batches that are committed in a lane, and its seal."""

    name: str
    """Name of the lane."""

    rows: int
    """Committed rows."""

    cursors: Mapping[str, int]
    """Last durable sequence number of the producers that wrote here."""

    seal: Seal | None
    """Its seal; None while its writer lives, or the owner has not sealed it yet."""

    is_direct: bool = False
    """Whether a process other than the store's owner wrote it, with a ticket."""

    is_lost: bool = False
    """Whether its files are gone and it was given up: no row of it is left, its cursors are."""

    knows_cursors: bool = True
    """Whether the cursors are known; False for one that was given up of which no copy told."""

    __repr__ = short_repr

    @property
    def is_retired(self) -> bool:
        """Whether its rows were removed to make room."""
        return self.seal is not None and self.seal.reason == "retired"


def all_cursors(states: Sequence[LaneState]) -> dict[str, int]:
    """Return the last committed sequence number of every producer over all lanes."""
    cursors: dict[str, int] = {}
    for state in states:
        for producer, sequence in state.cursors.items():
            cursors[producer] = max(sequence, cursors.get(producer, 0))
    return cursors


def check_known(recording: str, states: Sequence[LaneState], producers: Iterable[str]) -> None:
    """Refuse producers of whom it may not be known how far they were acknowledged.

    Where a lane was given up and nothing told its cursors, any name that was in use before may have
    been acknowledged there. A name that holds the lane's number behind an ``@`` was not.

    Args:
        recording: id of the recording.
        states: all its lanes.
        producers: names of the producers that want to go on.

    Raises:
        Conflict: a producer's name may have been in use when the lane was lost.
    """
    unknown = [state.name for state in states if not state.knows_cursors]
    if not unknown:
        return
    mark = f"@{max(unknown).partition('.')[0]}"
    for producer in producers:
        if mark not in producer:
            raise Conflict(
                f"recording {recording!r} lost lane {max(unknown)!r} for good, and how far its "
                f"producers were acknowledged is not known: {producer!r} may have been one, so it "
                f"cannot go on; record under a new name that ends in {mark}, such as "
                f"{producer + mark!r}"
            )
