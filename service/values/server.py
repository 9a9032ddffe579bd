"""What answers for a store: its version, limits and what is on."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLimits:
    """What a server takes; more is refused with ResourceExhausted."""

    message_bytes: int
    """Largest message in either direction."""
    batch_bytes: int
    """Largest batch of an append."""
    held_bytes: int
    """Batches of all producers in memory, waiting for the disk."""
    page_size: int
    """Most items that one answer of a list holds; the clients ask for the next by themselves."""
    calls: int
    """Calls at a time; 0: no limit."""
    streams: int
    """Calls at a time that read rows or watch a job; 0: no limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """What answers for a store: a server, or this process where it opened the store itself."""

    version: str
    """Version of isogloss."""
    python: str
    """Version of its Python."""
    platform: str
    """Operating system and processor."""
    start_time: float
    """Seconds since the epoch at which it began."""
    addresses: tuple[str, ...]
    """Where it listens; empty where it is this process."""
    tls: bool
    """Whether its TCP addresses speak TLS."""
    token_wanted: bool
    """Whether callers on TCP must send the store's token."""
    runs_workers: bool
    """Whether queued jobs are run by processes of its machine."""
    job_kinds: tuple[str, ...]
    """The kinds of job that it knows, such as ``train``."""
    limits: ServerLimits
    """What it takes at most."""
