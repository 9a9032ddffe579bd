"""The state of a lane: the rows and batches that are committed in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
