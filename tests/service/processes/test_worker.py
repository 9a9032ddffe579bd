"""The worker as a process: when it ends without running its job."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import Fenced
from isogloss.service.jobs.processes import EXIT_FENCED, EXIT_ORPHANED
from isogloss.service.jobs.queue import JobTable
from isogloss.service.processes.worker import run
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.service.values.results import SiteRef
from isogloss.store import Store

SPEC = TrainSpec(dictionary="a", sources=(SiteRef(recording="r", site="s"),), config={})


@pytest.fixture
def table(tmp_path: Path) -> Iterator[JobTable]:
    with Store.open(tmp_path / "store") as store:
        table = JobTable(store.catalog.path)
        yield table
        table.close()


@pytest.fixture
def claimed(table: JobTable) -> JobRecord:
    table.submit(SPEC, "")
    claimed = table.claim(10)
    assert claimed is not None
    return claimed


def test_a_worker_of_an_old_attempt_ends_without_running(
    table: JobTable, claimed: JobRecord, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "isogloss.service.processes.worker",
        str(tmp_path / "store"),
        claimed.id,
    ]
    ended = subprocess.run([*command, str(claimed.attempt + 1)], check=False, timeout=60)
    assert ended.returncode == EXIT_FENCED
    assert table.get(claimed.id) == claimed


def test_a_worker_of_a_cancelled_job_ends_it_without_running(
    table: JobTable, claimed: JobRecord, tmp_path: Path
) -> None:
    table.cancel(claimed.id)
    command = [
        sys.executable,
        "-m",
        "isogloss.service.processes.worker",
        str(tmp_path / "store"),
        claimed.id,
    ]
    ended = subprocess.run(
        [*command, str(claimed.attempt)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, "failed" in ended.stderr) == (0, False), ended.stderr
    assert table.get(claimed.id).state is JobState.CANCELLED


def test_a_worker_without_its_supervisor_ends_at_once(
    table: JobTable, claimed: JobRecord, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "isogloss.service.processes.worker",
        str(tmp_path / "store"),
        claimed.id,
    ]
    ended = subprocess.run(
        [*command, str(claimed.attempt)],
        env={"ISOGLOSS_SUPERVISOR": "1"},
        check=False,
        timeout=60,
    )
    assert ended.returncode == EXIT_ORPHANED
    assert table.get(claimed.id) == claimed


def test_a_worker_that_is_replaced_while_it_works_writes_no_end_of_the_job(
    table: JobTable, claimed: JobRecord, tmp_path: Path
) -> None:
    def replaced(*_: object) -> dict[str, object]:
        raise Fenced("attempt 1 was replaced")

    handler = signal.getsignal(signal.SIGTERM)
    try:
        code = run(str(tmp_path / "store"), claimed.id, claimed.attempt, lambda _: replaced)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert code == EXIT_FENCED
    assert table.get(claimed.id).state in (JobState.STARTING, JobState.RUNNING)
