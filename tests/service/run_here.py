"""Running a job's task in the test's own process, as a worker does in its own."""

from isogloss.service.jobs.queue import JobTable
from isogloss.service.tasks.heart import Heart
from isogloss.service.tasks.load import load_task
from isogloss.service.values.job_kinds import read_spec
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.store import Store


def run_here(store: Store, kind: str, spec: dict[str, object]) -> JobRecord:
    """Queue a job, run it here, and return how it ended; its error is raised."""
    table = JobTable(store.catalog.path)
    job = table.submit(read_spec(kind, spec), "")
    claimed = table.claim(30)
    assert claimed is not None
    assert claimed.id == job.id
    heart = Heart(table, claimed, on_fenced=lambda: None)
    try:
        result = load_task(kind)(store, claimed, heart)
        heart.close()
        table.finish(job.id, claimed.attempt, JobState.SUCCEEDED, result=result)
    except BaseException:
        heart.close()
        table.finish(job.id, claimed.attempt, JobState.FAILED, error=("JOB_FAILED", "see the test"))
        raise
    finally:
        record = table.get(job.id)
        table.close()
    return record
