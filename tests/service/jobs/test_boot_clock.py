"""The clock of leases, against the system's own account of it."""

from pathlib import Path

import pytest

from isogloss.service.jobs.boot_clock import boot, now_s


def test_it_runs_from_the_start_of_the_machine_and_never_back() -> None:
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    one, two = now_s(), now_s()
    assert one == pytest.approx(uptime_s, abs=600)
    assert two >= one


def test_all_processes_of_one_start_name_it_alike() -> None:
    assert boot().startswith(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    assert boot() == boot()
