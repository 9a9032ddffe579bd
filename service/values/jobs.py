"""What is known of a job: its state, what was asked for, what it made."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class JobState(StrEnum):
    """Where a job is; the last three are final."""

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

TARGETS: Mapping[str, str] = MappingProxyType(
    {"train": "dictionary", "probe": "probe", "match": "match"}
)
"""The kinds of job, each with the field of its spec that names what it makes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """What is known of a job at one moment."""

    id: str
    """Resource id, such as ``train-3f9a12c0``."""
    kind: str
    """``train``, ``probe`` or ``match``."""
    state: JobState
    """Where the job is."""
    spec: Mapping[str, object]
    """What was asked for."""
    result: Mapping[str, object] | None
    """What the job made, once it succeeded."""
    error: tuple[str, str] | None
    """Reason (as in :mod:`isogloss.errors`) and message, once it failed."""
    step: int
    """Steps done, in the task's own unit."""
    total_steps: int
    """Steps in all; 0 while unknown."""
    metrics: Mapping[str, float]
    """The newest figures, such as ``fvu`` or ``rows_per_s``."""
    attempt: int
    """How many workers were started for it so far."""
    created: float
    """Seconds since the epoch."""
    updated: float
    """Seconds since the epoch of the last change."""
