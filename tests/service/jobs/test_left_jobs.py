"""A job is told as running only while somebody runs it."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from isogloss.service.jobs.left_jobs import as_seen
from isogloss.service.jobs.processes import LEASE_S, identity
from isogloss.service.jobs.queue import Held
from isogloss.service.values.jobs import JobRecord, JobState

RECORD = JobRecord(
    id="train-1", kind="train", state=JobState.RUNNING, spec={}, result=None, error=None, step=3,
    total_steps=9, metrics={}, attempt=1, created=0.0, updated=0.0,
)  # fmt: skip


def seen(record: JobRecord, holder: str | None, *, is_late: bool = False) -> JobState:
    held = Held(record=record, is_late=is_late, holder=holder, ran_s=0.0, limit_s=0.0)
    found = as_seen(record, held)
    assert replace(found, state=record.state) == record  # nothing else changes
    return found.state


@pytest.fixture(scope="module")
def ended() -> str:
    """The name of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = identity(child.pid)
    child.communicate()
    return name


@pytest.mark.parametrize("state", [JobState.STARTING, JobState.RUNNING])
def test_a_job_whose_worker_ended_is_queued_however_long_its_lease(
    ended: str, state: JobState
) -> None:
    assert seen(replace(RECORD, state=state), ended) is JobState.QUEUED


def test_a_job_whose_worker_lives_runs_however_late_it_is() -> None:
    assert seen(RECORD, identity(os.getpid()), is_late=True) is JobState.RUNNING


def test_a_worker_of_another_machine_is_known_by_what_it_wrote_last() -> None:
    name = "another-boot/1 77 123"  # its lease is counted by a clock that is not here
    now = time.time()
    assert seen(replace(RECORD, updated=now), name, is_late=True) is JobState.RUNNING
    late = now - 2 * LEASE_S - 1
    assert seen(replace(RECORD, updated=late), name, is_late=True) is JobState.QUEUED


def test_a_job_is_starting_while_its_starter_has_it() -> None:
    starting = replace(RECORD, state=JobState.STARTING)
    assert seen(starting, None) is JobState.STARTING
    assert seen(starting, None, is_late=True) is JobState.QUEUED


RUNNING = {JobState.STARTING, JobState.RUNNING}


@pytest.mark.parametrize("state", [state for state in JobState if state not in RUNNING])
def test_any_other_state_stays_what_it_is(ended: str, state: JobState) -> None:
    assert seen(replace(RECORD, state=state), ended) is state
    assert as_seen(RECORD, None) is RECORD
