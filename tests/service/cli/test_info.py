"""How a server's processes and the limits of its jobs are said."""

from isogloss.service.cli.info import _of_jobs, _process
from isogloss.service.values.server import ServerLimits, ServerProcess

LIMITS = ServerLimits(
    message_bytes=1, batch_bytes=1, held_bytes=1, page_size=1, calls=0, streams=0,
    jobs_at_a_time=2, job_memory_bytes=3 << 30, job_time_s=3_600_000, jobs_waiting=4_000,
    job_keep_s=604_800, jobs_kept=10_000,
)  # fmt: skip


def test_times_are_said_in_hours_and_days() -> None:
    assert _of_jobs(LIMITS) == [
        ("jobs", "2 at a time, in 3.22 GB, each for 1,000.0 h"),
        ("jobs that wait", "at most 4,000 of a client"),
        ("jobs that ended", "known for 7 days, the last 10,000"),
    ]


def test_a_server_that_does_not_say_how_many_jobs_run_is_not_spoken_for() -> None:
    silent = ServerLimits(
        message_bytes=1, batch_bytes=1, held_bytes=1, page_size=1, calls=0, streams=0
    )
    assert _of_jobs(silent) == []


def test_a_process_says_how_often_it_was_started_again() -> None:
    def said(restarts: int, pid: int = 7) -> str:
        return _process(
            ServerProcess(name="query", pid=pid, restarts=restarts, last_end="killed by SIGKILL")
        )

    assert said(0) == "query: process 7"
    assert said(0, pid=0) == "query: does not run now"
    assert said(1) == "query: process 7, started again once, last killed by SIGKILL"
    assert said(2) == "query: process 7, started again 2 times, last killed by SIGKILL"
