"""The direct lanes of one recording as its owner manages them: offer, claim back, end."""

from collections.abc import Callable, Iterable, Sequence

from isogloss.errors import Conflict, NotFound
from isogloss.store.direct.register import DirectRegister
from isogloss.store.direct.ticket import DirectLaneTicket
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.lanes.state import LaneState, all_cursors


class DirectLanes:
    """Gives tickets for lanes of one recording to other processes, and takes them back.

    For the owner of the store. Not safe from several threads: the recording holds its lock around
    every call.

    Args:
        recording: resource id of the recording, for messages.
        register: the tickets of the recording.
        list_lanes: returns the lanes that count at the moment it is called; it also seals direct
            lanes whose writers died or were fenced.
        new_name: returns a lane name that is not taken yet.
    """

    def __init__(
        self,
        recording: str,
        register: DirectRegister,
        list_lanes: Callable[[], list[LaneState]],
        new_name: Callable[[], str],
    ) -> None:
        self._recording = recording
        self._register = register
        self._list_lanes = list_lanes
        self._new_name = new_name

    def offer(self, producers: Sequence[str], limits: LaneLimits) -> DirectLaneTicket:
        """Write a ticket for a new lane of these producers.

        Args:
            producers: names of the streams of batches.
            limits: how large the recording may grow, and how much of the disk must stay free.

        Returns:
            The ticket.

        Raises:
            Conflict: one of the producers is writing another direct lane.
        """
        self.claim(producers)
        states = self._list_lanes()
        cursors = all_cursors(states)
        return self._register.offer(
            self._new_name(),
            {name: cursors.get(name, 0) for name in producers},
            limits,
            sum(state.rows for state in states),
        )

    def claim(self, producers: Iterable[str]) -> None:
        """Withdraw the tickets of these producers whose writers have not begun.

        Args:
            producers: names of the streams of batches.

        Raises:
            Conflict: one of the producers is writing a direct lane already.
        """
        wanted = frozenset(producers)
        withdrawn: list[str] = []
        for lane, (taken, has_begun) in self._unsealed().items():
            both = sorted(wanted & taken)
            if both and has_begun:
                raise Conflict(
                    f"producers {both} of recording {self._recording!r} are writing direct lane "
                    f"{lane!r}: close that writer, give this one other names, or end the lane if "
                    "its process hangs"
                )
            if both:
                self._register.fence(lane)
                withdrawn.append(lane)
        if withdrawn:
            # a writer may have begun between the look and its fence: such a lane counts
            counting = {state.name for state in self._list_lanes()}
            for lane in withdrawn:
                if lane not in counting:
                    self._register.forget(lane)

    def end(self, name: str) -> LaneState:
        """End a direct lane, whose writer can acknowledge nothing more, and seal it.

        Args:
            name: the lane's name.

        Returns:
            What is committed in the lane, now sealed.

        Raises:
            NotFound: there is no such direct lane, or its writer has not created it.
        """
        if any(state.name == name and state.is_direct for state in self._list_lanes()):
            self._register.fence(name)
            for state in self._list_lanes():
                if state.name == name:
                    return state
        raise NotFound(f"recording {self._recording!r} has no direct lane {name!r}: list its lanes")

    def producers(self) -> frozenset[str]:
        """Return the producers of all direct lanes and tickets that are not sealed."""
        return frozenset(name for taken, _ in self._unsealed().values() for name in taken)

    def _unsealed(self) -> dict[str, tuple[frozenset[str], bool]]:
        """Return the producers of each direct lane that is not sealed, and whether it began."""
        if not self._register.names():
            return {}
        states = {state.name: state for state in self._list_lanes()}
        sealed = {name for name, state in states.items() if state.seal or state.is_lost}
        return {
            lane: (producers, lane in states)
            for lane, producers in self._register.outstanding(sealed).items()
        }
