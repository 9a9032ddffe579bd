"""Processes with a cap each: a hang or a crash costs its section alone.

Imports nothing but the standard library: the process that waits must not hold a device.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Job:
    """One process."""

    name: str
    """Of the section, or of the sections that it runs."""
    command: Sequence[str]
    """What is run."""
    cap_s: float
    """Seconds after which it is ended."""
    is_timed: bool = False
    """Whether it runs alone."""


@dataclass(kw_only=True)
class Runner:
    """Runs jobs within a budget of seconds."""

    directory: Path
    """For their output, ``NAME.log``."""
    budget_s: float
    """Of the wall clock, for all."""
    environment: Mapping[str, str]
    """Of the processes."""
    ends: dict[str, str] = field(default_factory=dict[str, str])
    """How each ended: ``done``, ``exit N``, ``ended after S s`` or ``no time left``."""
    began: float = field(default_factory=time.monotonic)
    """When the budget began to run."""

    def run(self, jobs: Sequence[Job]) -> None:
        """Run those that are not timed side by side, then the others one after another."""
        together = [(job, self._start(job)) for job in jobs if not job.is_timed]
        start = time.monotonic()
        for job, process in together:
            self._finish(job, process, start)
        for job in jobs:
            if job.is_timed and self._left() > 1:
                self._finish(job, self._start(job), time.monotonic())
            elif job.is_timed:
                self.ends[job.name] = "no time left"

    def _left(self) -> float:
        return self.budget_s - (time.monotonic() - self.began)

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        with (self.directory / f"{job.name}.log").open("w") as log:
            return subprocess.Popen(
                [*job.command], stdout=log, stderr=subprocess.STDOUT, env={**self.environment}
            )

    def _finish(self, job: Job, process: subprocess.Popen[bytes], start: float) -> None:
        cap = min(job.cap_s - (time.monotonic() - start), self._left())
        try:
            code = process.wait(max(0.1, cap))
            self.ends[job.name] = "done" if code == 0 else f"exit {code}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self.ends[job.name] = f"ended after {time.monotonic() - start:.0f} s"


def python(*arguments: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *arguments]
