"""Jobs whose worker is gone: what those see who only read the queue."""

import time
from dataclasses import replace

from isogloss.service.jobs.processes import LEASE_S, is_alive, pid_of
from isogloss.service.jobs.queue import Held
from isogloss.service.values.jobs import JobRecord, JobState

_RUNS = (JobState.STARTING, JobState.RUNNING)
_SILENT_S = 2 * LEASE_S
"""How long a worker of another machine may be silent: clocks of two machines differ a little."""


def as_seen(record: JobRecord, held: Held | None) -> JobRecord:
    """Return a job as it is, where the table may be older than the end of its worker.

    A process that was killed, or in which Ctrl-C was pressed twice, writes nothing any more. Its
    jobs wait for the next owner of the store, so they are queued.

    Args:
        record: the job as the table has it.
        held: the same with its worker; None: no worker has it.
    """
    if held is None or record.state not in _RUNS or not _is_left(held):
        return record
    return replace(record, state=JobState.QUEUED)


def _is_left(held: Held) -> bool:
    if held.holder is None:  # a worker is being started, or its starter ended at that moment
        return held.is_late
    if pid_of(held.holder) is None:
        return time.time() - held.record.updated > _SILENT_S
    return not is_alive(held.holder)
