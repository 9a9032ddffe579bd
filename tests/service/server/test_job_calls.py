"""Calls of a real server that wait for jobs hold up no other call."""

import concurrent.futures
import time
from pathlib import Path

import pytest
from tests.service.serving import server_on

import isogloss
from isogloss.errors import DeadlineExceeded, JobCancelled, NotFound
from isogloss.store.testing import sample_spec

WAITERS = 40
"""More than a server has threads for short calls (16); twice as many than it has for streams."""


def test_many_who_wait_or_watch_hold_up_nobody(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        server_on(store),
        isogloss.connect(store) as client,
        concurrent.futures.ThreadPoolExecutor(4 * WAITERS) as threads,
    ):
        client.create_recording(sample_spec("docs"), ["zero"])
        job = client.train("docs", site=sample_spec("docs").sites[0].name, features=8, k=4)

        def wait() -> str:
            with isogloss.connect(store) as other, pytest.raises(JobCancelled):
                other.job(job.name).result(timeout_s=60)
            return "cancelled"

        def watch() -> list[str]:
            with isogloss.connect(store) as other:
                return [info.state for info in other.job(job.name).progress()]

        waiting = [threads.submit(wait) for _ in range(WAITERS)]
        watching = [threads.submit(watch) for _ in range(2 * WAITERS)]
        time.sleep(2)  # so that all of them are there
        for _ in range(20):
            assert client.recording("docs").id == "docs"
        assert not any(task.done() for task in (*waiting, *watching))
        client.job(job.name).cancel()
        assert {task.result(60) for task in waiting} == {"cancelled"}
        seen = [task.result(60) for task in watching]
        assert all(states == ["QUEUED", "CANCELLED"] for states in seen), seen


def test_a_wait_says_what_it_waited_for(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(store), isogloss.connect(store) as client:
        client.create_recording(sample_spec("docs"), ["zero"])
        job = client.train("docs", site=sample_spec("docs").sites[0].name, features=8, k=4)
        with pytest.raises(DeadlineExceeded):
            job.result(timeout_s=0.3)
        with pytest.raises(NotFound, match="no-such-job"):
            client.job("no-such-job").result(timeout_s=5)
