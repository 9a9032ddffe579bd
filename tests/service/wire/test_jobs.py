import pytest

from isogloss.service.values.results import JobInfo
from isogloss.service.wire.jobs import from_operation, to_operation

TIME_S = 1_700_000_000.125


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"])
def test_a_job_survives_as_a_long_running_operation(state: str) -> None:
    job = JobInfo(
        name="train-1",
        kind="train",
        state=state,
        step=3,
        total_steps=9,
        metrics={"fvu": 0.5},
        attempt=2,
        created=TIME_S,
        updated=TIME_S + 1,
        made="dictionaries/d" if state == "SUCCEEDED" else "",
        error=("SHAPE_ERROR", "found 3, wanted 4") if state == "FAILED" else None,
    )
    operation = to_operation(job)
    assert operation.done == job.is_done
    assert from_operation(operation) == job
