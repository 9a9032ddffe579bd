"""What upkeep of a store comes to: lanes, progress and results, the same on both transports."""

from collections.abc import Mapping
from dataclasses import dataclass

from isogloss.errors import InvalidInput
from isogloss.store import LaneSite, QuantisationError

DAY_S = 86_400.0
"""How old garbage has to be when nobody says otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneInfo:
    """What one writer wrote in one life."""

    name: str
    """Its name, within the recording."""
    rows: int
    """Committed rows."""
    cursors: Mapping[str, int]
    """Last durable sequence number of each producer that wrote here."""
    sealed: bool
    """Whether no row will be added."""
    reason: str
    """Why it was sealed, such as ``closed``; empty while it is not."""
    damage: str
    """What was lost of acknowledged rows; empty when nothing was."""
    sites: tuple[LaneSite, ...]
    """The rows of each site as they are stored."""
    stored_bytes: int
    """Of all its files."""
    direct: bool = False
    """Whether another process wrote it, past the owner of the store."""

    @property
    def is_lossy(self) -> bool:
        """Whether rows of a site were rounded."""
        return any(site.error is not None for site in self.sites)

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers its sites are in, each once."""
        return tuple(dict.fromkeys(site.tier for site in self.sites))


@dataclass(frozen=True, kw_only=True, slots=True)
class UpkeepProgress:
    """How far a call is that reads or rewrites what is stored."""

    step: str
    """What is at work, for people."""
    done: int
    """Bytes of rows as they were recorded."""
    total: int
    """Bytes in all; 0 while unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """What compressing a recording came to."""

    sites: int
    """Sites of lanes that were compressed now."""
    bytes_before: int
    """Of all lanes, on disk."""
    bytes_after: int
    """Of all lanes, on disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantisation:
    """What quantising a recording came to."""

    errors: Mapping[str, QuantisationError]
    """How far the rows are from what was recorded, by site."""
    bytes_before: int
    """Of all lanes, on disk."""
    bytes_after: int
    """Of all lanes, on disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """What was removed because nothing names it."""

    files: int
    """Files and directories that crashes and deletions left."""
    logs: int
    """Logs of jobs that ended."""

    def __post_init__(self) -> None:
        if min(self.files, self.logs) < 0:
            raise InvalidInput(f"{self.files} files and {self.logs} logs; wanted 0 or more")
