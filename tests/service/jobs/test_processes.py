"""Names of processes, and processes that end with the one that started them."""

import os
import signal
import subprocess
import sys

import pytest

from isogloss.service.jobs.processes import (
    EXIT_ORPHANED,
    SUPERVISOR_VARIABLE,
    identity,
    is_alive,
    kill_group,
    pid_of,
)


def test_a_process_is_known_by_its_start_and_not_by_its_pid_alone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    name = identity(child.pid)
    assert is_alive(name)
    assert pid_of(name) == child.pid
    assert not is_alive(name + "0"), "another process with that pid was taken for it"
    assert pid_of("another-boot/7 12 345") is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not is_alive(name)
    assert is_alive(identity(os.getpid()))


def test_a_name_is_not_read_as_that_of_another_pid_or_start() -> None:
    machine, pid, started = identity(os.getpid()).rsplit(" ", 2)
    assert pid == str(os.getpid())
    assert int(started) > 1, "ticks since boot"
    assert not is_alive(f"{machine} {pid} 1")
    assert not is_alive(f"other {pid} {started}")
    assert pid_of(f"{machine} 7 1") == 7


def test_a_group_is_killed_with_all_that_it_started_and_a_lost_one_is_left() -> None:
    code = "import subprocess, sys; print(flush=True); subprocess.run(['sleep', '60'])"
    child = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    kill_group(child.pid)
    assert child.wait(60) == -signal.SIGKILL
    assert child.stdout.read() == b"", "its own child, which held the pipe, is gone too"
    child.stdout.close()
    kill_group(child.pid)
    kill_group(None)


@pytest.mark.parametrize(("supervisor", "code"), [("1", EXIT_ORPHANED), ("0", 3), ("", 3)])
def test_a_process_of_another_supervisor_ends_at_once(supervisor: str, code: int) -> None:
    program = (
        "from isogloss.service.jobs.processes import end_with_supervisor as end;"
        "end(); raise SystemExit(3)"
    )
    environment = {**os.environ, SUPERVISOR_VARIABLE: supervisor or str(os.getpid())}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == code


def test_a_process_ends_soon_after_the_one_it_watches() -> None:
    program = (
        "import os, time; from isogloss.service.jobs.processes import watch_parent;"
        "print(os.getpid(), flush=True); watch_parent({parent}); time.sleep({s})"
    )
    lost = subprocess.run([sys.executable, "-c", program.format(parent=1, s=60)], check=False)
    assert lost.returncode == EXIT_ORPHANED
    kept = program.format(parent=os.getpid(), s=0.1)
    assert subprocess.run([sys.executable, "-c", kept], check=False).returncode == 0
