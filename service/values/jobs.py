"""A job as the queue holds it: its state, its spec and its result."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """State of a job; the last three are final."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the job will never change again."""
        return self in _FINAL


_FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """A job as the queue held it at one moment."""

    id: str
    """Resource id, such as ``train-3f9a12c0``."""
    kind: str
    """Name of its kind, see :mod:`isogloss.service.values.job_kinds`."""
    state: JobState
    """State of the job."""
    spec: Mapping[str, object]
    """The work to do, as JSON; :func:`isogloss.service.values.job_kinds.read_spec` reads it."""
    result: Mapping[str, object] | None
    """Description of the thing that the job made, once it has succeeded."""
    error: tuple[str, str] | None
    """Reason (as in :mod:`isogloss.errors`) and message, once it failed."""
    step: int
    """Steps done, in the task's own unit."""
    total_steps: int
    """Steps in all; 0 while unknown."""
    metrics: Mapping[str, float]
    """The newest figures, such as ``fvu`` or ``rows_per_s``."""
    attempt: int
    """How many workers were started for the job so far."""
    created: float
    """Seconds since the epoch."""
    updated: float
    """Seconds since the epoch of the last change."""
