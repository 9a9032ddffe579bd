"""Settings of a server, and how a process that keeps it running hands them to it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from isogloss.errors import InvalidInput
from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.jobs.limits import JobLimits
from isogloss.service.server.call_limits import CallLimits
from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Settings of a server."""

    listen: tuple[str, ...] = ()
    """Addresses, ``unix:/path`` or ``host:port``; none: the store's own unix socket."""
    token: str | None = None
    """The token that TCP callers must send; None: the store's own, made when it is first needed."""
    certificate: Path | None = None
    """PEM certificate chain; with it every TCP port speaks TLS."""
    key: Path | None = None
    """PEM private key of the certificate."""
    reflection: bool = True
    """Whether callers may ask which services there are."""
    drain_s: float = 10.0
    """For how many seconds running calls may go on after SIGTERM."""
    query_threads: int = 4
    """Threads of the query process."""
    run_workers: bool = True
    """Whether this server runs the jobs."""
    group: str | None = None
    """Name of a group whose members may read the store's files; None: as it was."""
    limits: IngestLimits = field(default_factory=IngestLimits)
    """Limits of memory and sizes for ingest."""
    calls: CallLimits = field(default_factory=CallLimits)
    """Limits of calls: how many at a time, and how slowly they may go on."""
    jobs: JobLimits = field(default_factory=JobLimits)
    """Limits of jobs: how many run, with how much memory, for how long; how long they are known."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidInput("certificate and key go together: give both, or neither")
        if not self.drain_s >= 0:
            raise InvalidInput(f"drain_s is {self.drain_s}, wanted 0 or more")
        if not self.query_threads > 0:
            raise InvalidInput(f"query_threads is {self.query_threads}, wanted more than 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lives:
    """What a server is told of those before it, by the process that starts it again."""

    restarts: int = 0
    """How many ended without being told to."""
    last_end: str = ""
    """How the last of them ended."""


def to_line(config: ServerConfig, lives: Lives) -> bytes:
    """Return settings as a line of JSON.

    Args:
        config: the settings; may hold a token, so the line is no argument of a process.
        lives: what is said of the servers before.

    Returns:
        The line, for :func:`from_line`.
    """
    found = {"config": asdict(config), "lives": asdict(lives)}
    return json.dumps(found, default=str).encode() + b"\n"


def from_line(line: bytes) -> tuple[ServerConfig, Lives]:
    """Read what :func:`to_line` wrote.

    Args:
        line: the line.

    Returns:
        The settings, and what is said of the servers before.

    Raises:
        InvalidInput: the line is something else.
    """
    try:
        found = cast("dict[str, Any]", json.loads(line))
        values = _known(ServerConfig, found["config"])
        for name in ("certificate", "key"):
            values[name] = None if values[name] is None else Path(values[name])
        values["listen"] = tuple(values["listen"])
        values["limits"] = IngestLimits(**_known(IngestLimits, values["limits"]))
        values["calls"] = CallLimits(**_known(CallLimits, values["calls"]))
        values["jobs"] = JobLimits(**_known(JobLimits, values["jobs"]))
        return ServerConfig(**values), Lives(**_known(Lives, found["lives"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"no settings of a server were given: {error}") from error


def _known(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    names = {found.name for found in fields(kind)}
    return {name: value for name, value in given.items() if name in names}
