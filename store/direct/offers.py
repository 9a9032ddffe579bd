"""What the owner of a recording does about direct lanes: offers, claims, ends them."""

import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from isogloss.errors import Conflict, InvalidInput, NotFound
from isogloss.store.direct.register import DirectLook, DirectRegister
from isogloss.store.direct.ticket import DirectLaneTicket, check_producers
from isogloss.store.disk.filesystem import FileSystem, storage_errors
from isogloss.store.lanes.limits import LaneLimits
from isogloss.store.lanes.recover import settle_lane
from isogloss.store.lanes.seal import Seal, lane_names
from isogloss.store.lanes.state import LaneState
from isogloss.store.lanes.writer import OwnerLaneWriter
from isogloss.store.schema.recording_spec import RecordingSpec


class DirectOffers(ABC):
    """The part of a recording that lets other processes write lanes of it."""

    _files: FileSystem
    _directory: Path
    _spec: RecordingSpec
    _lock: threading.RLock
    _direct: DirectRegister
    _writer: OwnerLaneWriter | None

    @property
    @abstractmethod
    def id(self) -> str:
        """Resource id."""

    @abstractmethod
    def lanes(self) -> list[LaneState]:
        """Return the lanes that count, in the order their rows are numbered."""

    @abstractmethod
    def _owned(self) -> None:
        """Raise StoreOwned where this process does not own the store."""

    def offer_direct_lane(
        self, producers: Sequence[str], limits: LaneLimits | None = None
    ) -> DirectLaneTicket:
        """Let a process on the same storage write a lane of its own, for these producers.

        They belong to that lane until it ends: when its writer closes it or dies, or by
        :meth:`end_direct_lane`. A ticket for them whose writer has not begun is withdrawn.

        Args:
            producers: names of the streams of batches.
            limits: what the recording may take; lanes written at a time count their own rows only.

        Raises:
            StoreOwned: this process does not own the store.
            Conflict: a producer is writing a direct lane.
            InvalidInput: no producer, too many, or the store's files are not a plain directory's.
        """
        self._owned()
        if not self._files.can_map:
            raise InvalidInput(
                "direct lanes need a store in a directory that both processes see: append through "
                "the owner"
            )
        check_producers(dict.fromkeys(producers, 0))
        with self._lock, storage_errors(f"no direct lane can be offered of {self.id!r}"):
            self.claim(producers)
            states = self.lanes()
            cursors = all_cursors(states)
            ticket = self._direct.offer(
                self._new_lane_name(),
                {name: cursors.get(name, 0) for name in producers},
                limits or LaneLimits(),
                sum(state.rows for state in states),
            )
            if self._writer is not None:
                self._writer.lend(producers)
            return ticket

    def claim(self, producers: Iterable[str]) -> None:
        """Make sure that no other process may append batches of these producers.

        Tickets for them whose writer has not begun are withdrawn: the newest writer holds.

        Raises:
            StoreOwned: this process does not own the store.
            Conflict: one of them is writing a direct lane.
        """
        self._owned()
        wanted = frozenset(producers)
        with self._lock:
            withdrawn: list[str] = []
            for lane, (taken, has_begun) in self._taken().items():
                both = sorted(wanted & taken)
                if both and has_begun:
                    raise Conflict(
                        f"producers {both} of recording {self.id!r} are writing direct lane "
                        f"{lane!r}: close that writer, give this one other names, or end the lane "
                        "if its process hangs"
                    )
                if both:
                    self._direct.fence(lane)
                    withdrawn.append(lane)
            if withdrawn:
                counting = {state.name for state in self.lanes()}  # one may have begun just now
                for lane in withdrawn:
                    if lane not in counting:
                        self._direct.forget(lane)

    def has_lent(self, producer: str) -> bool:
        """Whether the lane open here refuses a producer, since another lane has, or had, it."""
        writer = self._writer
        return writer is not None and writer.is_open and writer.has_lent(producer)

    def end_direct_lane(self, name: str) -> LaneState:
        """End a direct lane whose writer hangs: what it acknowledged counts, no more follows.

        Raises:
            StoreOwned: this process does not own the store.
            NotFound: there is no such direct lane, or its writer never began.
        """
        self._owned()
        with self._lock:
            if any(state.name == name and state.is_direct for state in self.lanes()):
                self._direct.fence(name)
                for state in self.lanes():
                    if state.name == name:
                        return state
        raise NotFound(f"recording {self.id!r} has no direct lane {name!r}: list its lanes")

    def _taken(self) -> dict[str, tuple[frozenset[str], bool]]:
        """Return each unsealed direct lane with its producers, and whether it has begun."""
        if not self._direct.names():
            return {}
        states = {state.name: state.seal for state in self.lanes()}
        sealed = {name for name, seal in states.items() if seal is not None}
        return {
            lane: (producers, lane in states)
            for lane, producers in self._direct.outstanding(sealed).items()
        }

    def _lend_taken(self, writer: OwnerLaneWriter) -> None:
        """Let a new lane of the owner refuse what direct lanes have."""
        for producers, _ in self._taken().values():
            writer.lend(producers)

    def _settle(self, name: str, look: DirectLook) -> tuple[Seal | None, bool]:
        """Seal a lane whose writer is gone; returns the seal and whether the lane counts."""
        directory = self._directory / "lanes" / name
        seal = settle_lane(self._files, directory, self._spec, is_fenced=look.is_fenced)
        if not look.is_direct:
            return seal, True
        if seal is None:
            if look.is_fenced:  # it never began, and now it never counts
                self._direct.forget(name)
            return None, not look.is_fenced
        return seal, not self._direct.accept(name, seal)

    def _new_lane_name(self) -> str:
        """Return a name behind those of all lanes, and of all that were offered to others."""
        names = [*lane_names(self._files, self._directory / "lanes"), *self._direct.names()]
        numbers = [name.partition(".")[0] for name in names]
        last = max((int(number) for number in numbers if number.isdecimal()), default=0)
        return f"{last + 1:08d}.{secrets.randbits(64):016x}"


def all_cursors(states: Sequence[LaneState]) -> dict[str, int]:
    """Return the last committed sequence number of every producer over all lanes."""
    cursors: dict[str, int] = {}
    for state in states:
        for producer, sequence in state.cursors.items():
            cursors[producer] = max(sequence, cursors.get(producer, 0))
    return cursors
