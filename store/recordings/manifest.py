"""The manifest of a recording: which lanes it has, so that a lane whose files are gone is missed.

A lane has an entry ``manifest/<lane>`` from before its first acknowledgement on
(:func:`~isogloss.store.lanes.lane_directory.enter_lane`), and loses it before the store itself
removes the lane's files. So a lane that has an entry and no files was removed by something else,
such as a restore that brought back only a part. ``manifest/<lane>.lost`` says that the owner of the
store was told to go on without the lane.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isogloss.errors import CorruptData
from isogloss.short_repr import short_repr
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import FileSystem, make_directories
from isogloss.store.lanes.lane_directory import MANIFEST_NAME, enter_lane
from isogloss.store.lanes.recording_version import DESCRIPTION_NAME, RECORDING_VERSIONS
from isogloss.store.lanes.seal import Seal, note_seal, noted_seal
from isogloss.store.lanes.state import LaneState
from isogloss.store.schema.json_fields import SCHEMA_VERSION, get_count, get_mapping

HAS_MANIFEST = "has_manifest"
"""Field of ``recording.json``: the recording was created with a manifest, so it must have one."""
_LOST = ".lost"


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingLane:
    """A lane that the manifest names and the disk lacks."""

    name: str
    """Name of the lane; empty where the manifest itself is missing."""

    reason: str
    """Says what was looked for and not found."""

    rows: int | None = None
    """How many rows it had; None where that is not known."""

    cursors: Mapping[str, int] = field(default_factory=dict[str, int])
    """Last sequence number of each producer that wrote it, as far as that is known."""

    __repr__ = short_repr

    def describe(self) -> str:
        """Return a sentence for people: what is missing, and how much that was."""
        rows = "an unknown number of" if self.rows is None else f"{self.rows}"
        return self.reason if not self.name else f"is missing, with {rows} rows: {self.reason}"


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in a manifest at one moment."""

    entered: frozenset[str] = frozenset()
    """The lanes that the recording has."""

    lost: frozenset[str] = frozenset()
    """Those of them that were given up: they never count, whatever is on the disk."""

    is_gone: bool = False
    """Whether the manifest is missing from a recording that was created with one."""


class LaneManifest:
    """The manifest of one recording. Not safe from several threads.

    Args:
        files: the file system that the recording is on.
        directory: the recording's directory.
    """

    def __init__(self, files: FileSystem, directory: Path) -> None:
        self._files = files
        self._recording = directory
        self._directory = directory / MANIFEST_NAME
        self._given_up: dict[str, LaneState] = {}
        self._noted: dict[str, Seal] = {}

    def read(self) -> Listing:
        """Return the names in the manifest now.

        Read it before the lanes: what it names by then was on the disk by then.

        Raises:
            OSError: the directory cannot be read.
        """
        names = [name for name in self._files.names(self._directory) if name[0] != "."]
        lost = frozenset(name.removesuffix(_LOST) for name in names if name.endswith(_LOST))
        entered = frozenset(name for name in names if not name.endswith(_LOST))
        return Listing(entered, lost, is_gone=not names and self._is_gone())

    def _is_gone(self) -> bool:
        """Whether a recording in a directory was created with a manifest, and has none."""
        if self._files.is_remote or self._files.exists(self._directory):
            return False
        try:
            content = self._files.read_whole(self._recording / DESCRIPTION_NAME)
        except FileNotFoundError:
            return False  # the recording was deleted
        document = signed_json.decode(content, DESCRIPTION_NAME, RECORDING_VERSIONS)
        return document.get(HAS_MANIFEST) is True

    def enter(self, listing: Listing, states: Sequence[LaneState]) -> None:
        """Name lanes that count and are not named yet, as of older releases; copy their seals.

        Args:
            listing: the names in the manifest, read before the lanes.
            states: the lanes that count.
        """
        for state in states:
            seal = state.seal
            is_new = state.name not in listing.entered and (state.rows > 0 or seal is not None)
            if is_new:
                enter_lane(self._files, self._recording, state.name)
            if seal is None or self._noted.get(state.name) == seal:
                continue
            self._noted[state.name] = seal
            if self._files.is_remote and not is_new:
                continue  # who sealed it copied the seal: looking is a request for each lane
            noted = None if is_new else self.seal(state.name)
            if noted != seal and (noted is None or noted.rows <= seal.rows or state.is_retired):
                note_seal(self._files, self._recording, seal)

    def seal(self, lane: str) -> Seal | None:
        """Return the seal of a lane as it was copied here; None where that is not known."""
        return noted_seal(self._files, self._recording, lane)

    def missing(self, name: str, reason: str) -> MissingLane:
        """Describe a lane that is missing, with what the manifest knows of it."""
        seal = self.seal(name)
        if seal is None:
            return MissingLane(name=name, reason=reason)
        return MissingLane(name=name, reason=reason, rows=seal.rows, cursors=seal.cursors)

    def given_up(self, listing: Listing) -> list[LaneState]:
        """Return the lanes that were given up: without rows, with the cursors of their producers.

        Raises:
            CorruptData: the record of one is damaged.
        """
        for name in listing.lost - self._given_up.keys():
            content = self._files.read_whole(self._directory / f"{name}{_LOST}")
            document = signed_json.decode(content, f"record that lane {name!r} was given up")
            cursors = get_mapping(document, "cursors")
            self._given_up[name] = LaneState(
                name=name,
                rows=0,
                cursors={producer: get_count(cursors, producer) for producer in cursors},
                seal=None,
                is_lost=True,
                knows_cursors=document.get("rows") is not None,
            )
        return [self._given_up[name] for name in sorted(listing.lost)]

    def give_up(self, lanes: Sequence[MissingLane]) -> None:
        """Write down that the recording goes on without lanes; durable when this returns.

        Args:
            lanes: the lanes that are missing.
        """
        make_directories(self._files, self._directory)
        for lane in lanes:
            if lane.name:
                document = {
                    "schema_version": SCHEMA_VERSION,
                    "lane": lane.name,
                    "rows": lane.rows,
                    "cursors": dict(lane.cursors),
                    "reason": lane.reason,
                    "time_s": self._files.time_s(),
                }
                path = self._directory / f"{lane.name}{_LOST}"
                self._files.write_whole(path, [signed_json.encode(document)])

    def problems(self, states: Sequence[LaneState]) -> list[tuple[str, str]]:
        """Return what is wrong with the copies of seals, and lanes that hold less than these say.

        Args:
            states: the lanes that count.

        Returns:
            Names of lanes, each with a sentence.
        """
        found: list[tuple[str, str]] = []
        for state in states:
            if state.is_lost:
                continue
            noted = self.seal(state.name)
            if noted is None and state.seal is not None and self._has_copy(state.name):
                text = f"{MANIFEST_NAME}/{state.name} is no copy of the lane's seal"
                found.append((state.name, f"{text}: the next owner of the store writes it again"))
            elif noted is not None and state.rows < noted.rows and not state.is_retired:
                text = f"it proves {state.rows} rows, and its seal once said {noted.rows}"
                found.append((state.name, f"{text}: restore the lane's files from a copy"))
        return found

    def _has_copy(self, lane: str) -> bool:
        """Whether the entry of a lane holds anything."""
        try:
            return bool(self._files.read_whole(self._directory / lane))
        except OSError:
            return False


def missing_lanes(recording: str, missing: Sequence[MissingLane]) -> CorruptData:
    """Return the error with which a recording is refused that lacks lanes.

    Args:
        recording: id of the recording.
        missing: the lanes; at least one.

    Returns:
        The error; it names the first lanes, and what can be done.
    """
    shown = "; ".join(
        f"lane {lane.name!r} {lane.describe()}" if lane.name else lane.describe()
        for lane in missing[:4]
    )
    more = f"; and {len(missing) - 4} more lanes" if len(missing) > 4 else ""
    return CorruptData(
        f"recording {recording!r} is not complete, and is neither read nor written: {shown}{more}. "
        f"Restore what is missing from a copy, or run `isogloss give-up {recording}` to go on "
        "without it"
    )
