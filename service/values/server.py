"""Description of the process that answers for a store: version, limits, settings."""

from dataclasses import dataclass

from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerLimits:
    """Largest sizes that a server accepts; larger ones are refused with ResourceExhausted."""

    message_bytes: int
    """Largest message in either direction."""
    batch_bytes: int
    """Largest batch of an append."""
    held_bytes: int
    """Memory for what passes through, over all clients; half of it for batches on their way to the
    disk."""
    page_size: int
    """Most items that one answer of a list holds; clients ask for the next page by themselves."""
    calls: int
    """Calls at a time; 0: no limit."""
    streams: int
    """Calls at a time that read rows or watch a job; 0: no limit."""
    jobs_at_a_time: int = 0
    """Jobs that run at a time; 0 here and below: the server is of a release that does not say."""
    job_memory_bytes: int = 0
    """Memory of all jobs that run, by what their settings need."""
    job_time_s: float = 0.0
    """For how many seconds a job may run."""
    jobs_waiting: int = 0
    """Jobs of one client that have not ended."""
    job_keep_s: float = 0.0
    """For how many seconds a job that ended is known, with its log."""
    jobs_kept: int = 0
    """How many jobs that ended are known; the newest stay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerProcess:
    """One process of a server, other than its workers: what they do is told by the jobs."""

    name: str
    """``control``, which owns the store and takes batches, or ``query``."""
    pid: int
    """Process id on the server's machine; 0 where it does not run now."""
    restarts: int
    """How often it ended without being told to and was started again."""
    last_end: str
    """How it ended the last time that happened, such as ``killed by SIGKILL``; else empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerInfo:
    """Describes the process that answers for a store: a server, or the client's own process."""

    version: str
    """Version of isogloss."""
    python: str
    """Version of Python that it runs on."""
    platform: str
    """Operating system and processor."""
    start_time: float
    """Seconds since the epoch at which the process began to answer."""
    addresses: tuple[str, ...]
    """Addresses at which it listens; empty for this process."""
    tls: bool
    """Whether its TCP addresses speak TLS."""
    token_wanted: bool
    """Whether callers on TCP must send the store's token."""
    runs_workers: bool
    """Whether its machine runs queued jobs."""
    job_kinds: tuple[str, ...]
    """The kinds of job that it knows, such as ``train``."""
    limits: ServerLimits
    """Largest sizes that it accepts."""
    processes: tuple[ServerProcess, ...] = ()
    """Its processes; empty for this process, and from servers that do not say it."""

    __repr__ = short_repr
