"""How the limits of jobs are said."""

from isogloss.service.cli.info import _of_jobs  # pyright: ignore[reportPrivateUsage] (its rows)
from isogloss.service.values.server import ServerLimits

LIMITS = ServerLimits(
    message_bytes=1, batch_bytes=1, held_bytes=1, page_size=1, calls=0, streams=0,
    jobs_at_a_time=2, job_memory_bytes=3 << 30, job_time_s=5_400, jobs_waiting=4_000,
    job_keep_s=604_800, jobs_kept=10_000,
)  # fmt: skip


def test_times_are_said_in_hours_and_days() -> None:
    assert _of_jobs(LIMITS) == [
        ("jobs", "2 at a time, in 3.22 GB, each for 1.5 h"),
        ("jobs that wait", "at most 4,000 of a client"),
        ("jobs that ended", "known for 7 days, the last 10,000"),
    ]


def test_a_server_that_does_not_say_how_many_jobs_run_is_not_spoken_for() -> None:
    silent = ServerLimits(
        message_bytes=1, batch_bytes=1, held_bytes=1, page_size=1, calls=0, streams=0
    )
    assert _of_jobs(silent) == []
