"""What the jobs of one store may take: memory, time, places in the queue, room when they ended."""

import os
from dataclasses import dataclass

from isogloss.errors import InvalidInput, ResourceExhausted
from isogloss.service.values.machine import memory_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class JobLimits:
    """Limits of the jobs of a store; all finite."""

    workers: int | None = None
    """Jobs that run at a time; None: one for each four processors, at least 1 and at most 4."""
    memory_bytes: int | None = None
    """Memory of all jobs that run, by what their settings need; None: that of this machine."""
    time_s: float = 30 * 24 * 3600.0
    """For how many seconds a job may run, over all its attempts, whatever it asks for."""
    waiting: int = 1000
    """Jobs of one client that have not ended; more are refused."""
    keep_s: float = 30 * 24 * 3600.0
    """For how many seconds a job that ended is known, with its log."""
    keep: int = 1000
    """How many jobs that ended are known, with their logs; the newest stay."""

    def __post_init__(self) -> None:
        wanted = {
            "workers": 1 if self.workers is None else self.workers,
            "memory_bytes": 1 if self.memory_bytes is None else self.memory_bytes,
            "time_s": self.time_s,
            "waiting": self.waiting,
            "keep_s": self.keep_s,
            "keep": self.keep,
        }
        for name, value in wanted.items():
            if not 0 < value <= 1 << 62:
                raise InvalidInput(f"limit {name} of jobs is {value}, wanted a number above 0")

    @property
    def at_a_time(self) -> int:
        """Jobs that run at a time."""
        return self.workers or max(1, min(4, (os.cpu_count() or 1) // 4))

    @property
    def budget_bytes(self) -> int:
        """Memory that all jobs together may need."""
        return self.memory_bytes or memory_bytes()


@dataclass(frozen=True, kw_only=True, slots=True)
class JobNeeds:
    """What one job is known to need before it runs, and for whom it is."""

    client: str = ""
    """From where it was submitted; clients take turns. Empty: from this process."""
    memory_bytes: int = 0
    """Memory that its settings need at the least."""
    time_s: float | None = None
    """For how many seconds it may run, over all attempts; None: as long as any job may."""

    def __post_init__(self) -> None:
        if self.time_s is not None and not 0 < self.time_s <= 1e12:
            raise InvalidInput(
                f"time limit of the job is {self.time_s:g} s, wanted a number above 0, or none"
            )


def too_large(needed: int, budget: int) -> ResourceExhausted:
    """Return the error of a job that needs more memory than all jobs together may have."""
    return ResourceExhausted(
        f"the job needs at least {needed / 2**30:,.1f} GiB of memory, and all jobs together may "
        f"have {budget / 2**30:,.1f} here: use fewer features or smaller batches, or serve with "
        "a larger --job-memory"
    )
