"""Results of upkeep of a store: lanes, progress, outcomes. The same on both transports."""

from collections.abc import Mapping
from dataclasses import dataclass

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr
from isogloss.store import LaneSite, QuantisationError

DAY_S = 86_400.0
"""How old garbage has to be when nobody says otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneInfo:
    """A lane of a recording: the rows that one writer wrote between its start and its end."""

    name: str
    """Name of the lane, unique within the recording."""
    rows: int
    """Committed rows."""
    cursors: Mapping[str, int]
    """Last durable sequence number of each producer that wrote here."""
    sealed: bool
    """Whether the lane has ended, so that no row will be added."""
    reason: str
    """Why it was sealed, such as ``closed``; empty while it is not."""
    damage: str
    """Says which acknowledged rows were lost; empty when none was."""
    sites: tuple[LaneSite, ...]
    """The rows of each site as they are stored."""
    stored_bytes: int
    """Size of all its files."""
    direct: bool = False
    """Whether a process other than the store's owner wrote it."""

    __repr__ = short_repr

    @property
    def is_lossy(self) -> bool:
        """Whether rows of a site were rounded."""
        return any(site.error is not None for site in self.sites)

    @property
    def tiers(self) -> tuple[str, ...]:
        """How its sites are stored, such as ``sealed`` or ``compressed``; each way once."""
        return tuple(dict.fromkeys(site.tier for site in self.sites))


@dataclass(frozen=True, kw_only=True, slots=True)
class UpkeepProgress:
    """How far a call is that reads or rewrites stored rows."""

    step: str
    """Name of the lane or step that is being worked on, for people."""
    done: int
    """Bytes of rows done so far, counted as they were recorded."""
    total: int
    """Bytes in all; 0 while unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """Result of compressing a recording."""

    sites: int
    """Sites of lanes that were compressed now."""
    bytes_before: int
    """Size of all lanes on disk before."""
    bytes_after: int
    """Size of all lanes on disk after."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantisation:
    """Result of rounding the rows of a recording to 8 bits a number."""

    errors: Mapping[str, QuantisationError]
    """For each site, how far its rounded rows are from the rows that were recorded."""
    bytes_before: int
    """Size of all lanes on disk before."""
    bytes_after: int
    """Size of all lanes on disk after."""

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """How many files and logs were removed, to which nothing in the store refers."""

    files: int
    """Files and directories that crashes and deletions left."""
    logs: int
    """Logs of jobs that ended."""

    def __post_init__(self) -> None:
        if min(self.files, self.logs) < 0:
            raise InvalidInput(f"{self.files} files and {self.logs} logs; wanted 0 or more")
