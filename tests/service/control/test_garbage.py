"""What of artifacts and logs is garbage: nothing that the catalog or an unfinished job names."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.service.control.garbage import remove_logs, remove_orphans
from isogloss.service.jobs.queue import JobTable
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.jobs import JobState
from isogloss.service.values.results import SiteRef
from isogloss.store import Store

KINDS = {
    "dictionary": "dictionaries",
    "probe": "probes",
    "atlas": "atlases",
    "match": "matches",
}
U1, U2, U3, U4 = (str(number) * 16 for number in range(1, 5))
SPEC = TrainSpec(dictionary="d", sources=(SiteRef(recording="r", site="s"),), config={})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


@pytest.fixture
def jobs(store: Store) -> Iterator[Jobs]:
    with Jobs(store, run_workers=False) as jobs:
        yield jobs


@pytest.fixture
def table(store: Store) -> Iterator[JobTable]:
    table = JobTable.of(store)
    yield table
    table.close()


def make(path: Path, *, age_s: float = 0) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"x")
    old = time.time() - age_s
    os.utime(path, (old, old))
    return path


def log(store: Store, job: str, *, age_s: float = 0) -> Path:
    path = store.root / "jobs" / f"{job}.log"
    path.parent.mkdir(exist_ok=True)
    path.write_text("said something")
    old = time.time() - age_s
    os.utime(path, (old, old))
    return path


@pytest.mark.parametrize(("kind", "folder"), KINDS.items())
def test_what_the_catalog_knows_stays_and_the_rest_of_the_folder_goes(
    store: Store, jobs: Jobs, kind: str, folder: str
) -> None:
    store.catalog.put(kind, "a", U1, {})
    known, orphan = make(store.root / folder / U1), make(store.root / folder / U2)
    hidden = make(store.root / folder / ".being-written")
    assert remove_orphans(store, jobs, 0) == 1
    assert (known.exists(), hidden.exists(), orphan.exists()) == (True, True, False)
    assert remove_orphans(store, jobs, 0) == 0


def test_codes_stay_while_both_their_dictionary_and_their_probe_are_known(
    store: Store, jobs: Jobs
) -> None:
    store.catalog.put("dictionary", "d", U1, {})
    store.catalog.put("probe", "p", U2, {})
    codes = store.root / "codes"
    whole = make(codes / U1 / U2)
    orphans = [make(codes / U1 / U4), make(codes / U3 / U2), make(codes / U3 / U4)]
    assert remove_orphans(store, jobs, 0) == 3
    assert not any(path.exists() for path in orphans)
    assert whole.exists()
    assert not (codes / U3).exists(), "a folder without codes goes"


def test_what_changed_lately_stays(store: Store, jobs: Jobs) -> None:
    young = make(store.root / "dictionaries" / "young", age_s=100)
    old = make(store.root / "dictionaries" / "old", age_s=5000)
    assert remove_orphans(store, jobs, 3600) == 1
    assert (young.exists(), old.exists()) == (True, False)


def test_nothing_goes_while_a_worker_runs_and_nothing_that_a_job_goes_on_with(
    store: Store, jobs: Jobs, table: JobTable
) -> None:
    pinned = make(store.root / "dictionaries" / U1)
    orphan = make(store.root / "dictionaries" / "orphan")
    job = jobs.submit(SPEC)
    claimed = table.claim(30)
    assert claimed is not None
    table.remember(job.id, claimed.attempt, {"uid": U1})
    assert remove_orphans(store, jobs, 0) == 0
    table.release(job.id, claimed.attempt, blame="", limit=5, backoff_s=0)
    assert remove_orphans(store, jobs, 0) == 1
    assert (pinned.exists(), orphan.exists()) == (True, False)
    jobs.cancel(job.id)
    assert remove_orphans(store, jobs, 0) == 1
    assert not pinned.exists()


def test_a_queued_job_that_no_worker_took_holds_nothing_up(store: Store, jobs: Jobs) -> None:
    jobs.submit(SPEC)
    make(store.root / "matches" / "orphan")
    assert remove_orphans(store, jobs, 0) == 1


def test_logs_go_once_their_job_is_over_for_long_enough(
    store: Store, jobs: Jobs, table: JobTable
) -> None:
    over, queued = jobs.submit(SPEC), jobs.submit(replace(SPEC, dictionary="e"))
    claimed = table.claim(30)
    assert claimed is not None
    assert claimed.id == over.id
    table.finish(over.id, claimed.attempt, JobState.SUCCEEDED, result={})
    # how old the file is does not matter where the job is known: only when that ended
    of_over, of_queued = (log(store, job.id, age_s=9000) for job in (over, queued))
    unknown = [log(store, "lost-1", age_s=9000), log(store, "lost-2")]
    other = store.root / "jobs" / "notes.txt"
    other.write_text("mine")
    assert remove_logs(store, jobs, 3600) == 1
    assert [path.exists() for path in unknown] == [False, True]
    assert of_over.exists()
    assert remove_logs(store, jobs, 0) == 2
    assert (of_over.exists(), of_queued.exists(), other.exists()) == (False, True, True)
