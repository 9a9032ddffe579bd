"""The worker: one process that runs one attempt of one job.

Started by the supervisor of :mod:`isogloss.service.jobs.supervisor` as
``python -m isogloss.service.processes.worker STORE JOB ATTEMPT``.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from isogloss.errors import (
    Fenced,
    InternalError,
    IsoglossError,
    JobCancelled,
    RankLost,
    from_os_error,
)
from isogloss.service.jobs.processes import EXIT_FENCED, EXIT_RELEASED, end_with_supervisor
from isogloss.service.jobs.queue import JobTable
from isogloss.service.tasks.heart import Heart, Task
from isogloss.service.tasks.load import load_task
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.service.values.state_directory import make_state_directory
from isogloss.store import Store

_log = logging.getLogger(__name__)


def run(location: str, job: str, attempt: int, task_of: Callable[[str], Task]) -> int:
    """Run one attempt of a job, and write down how it ended.

    Args:
        location: the store's location, see
            :func:`isogloss.service.values.state_directory.location`.
        job: id of the job.
        attempt: number of the attempt that this process is; it can change nothing once another
            began.
        task_of: returns the function that does jobs of a kind. It may import heavy modules.

    Returns:
        The exit code.
    """
    with Store.attach(location) as store:
        table = JobTable.of(store)
        record = table.get(job)
        if record.attempt != attempt:
            return EXIT_FENCED
        try:
            heart = Heart(table, record, on_fenced=_end_now)
        except Fenced:
            return EXIT_FENCED
        signal.signal(signal.SIGTERM, _stopper(heart))
        try:
            state, result, error = _attempt(store, record, heart, task_of)
            heart.close()
            if state is None:
                return EXIT_RELEASED
            table.finish(job, attempt, state, result=result, error=error)
        except Fenced:
            return EXIT_FENCED
        return 0


def _attempt(
    store: Store, record: JobRecord, heart: Heart, task_of: Callable[[str], Task]
) -> tuple[JobState | None, dict[str, object] | None, tuple[str, str] | None]:
    try:
        heart.check()
        task = task_of(record.kind)
        heart.begin()
        result = task(store, record, heart)
    except JobCancelled:
        return (JobState.CANCELLED if heart.is_cancelled else None), None, None
    except RankLost as error:
        _log.warning("job %s goes on in its next attempt: %s", record.id, error)
        return (JobState.CANCELLED if heart.is_cancelled else None), None, None
    except Fenced:
        raise
    except IsoglossError as error:
        _log.exception("job %s failed", record.id)
        return JobState.FAILED, None, (error.reason, str(error))
    except OSError as error:
        _log.exception("job %s failed", record.id)
        known = from_os_error(error)
        return JobState.FAILED, None, (known.reason, str(known))
    except Exception as error:
        _log.exception("job %s failed", record.id)
        message = (
            f"{type(error).__name__}: {error} (a defect in isogloss; the trace is in "
            f"{make_state_directory(store)}/jobs/{record.id}.log)"
        )
        return JobState.FAILED, None, (InternalError.reason, message)
    return JobState.SUCCEEDED, result, None


def _stopper(heart: Heart) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        heart.request_stop()

    return stop


def _end_now() -> None:
    os._exit(EXIT_FENCED)


def main() -> int:
    """Entry point of the worker process."""
    end_with_supervisor()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    location, job, attempt = sys.argv[1:]
    return run(location, job, int(attempt), load_task)


if __name__ == "__main__":
    sys.exit(main())
