"""Names of processes, and how a worker process ends when its supervisor does."""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

LEASE_S = 15.0
"""How long a worker keeps its job without a heartbeat."""
SUPERVISOR_VARIABLE = "ISOGLOSS_SUPERVISOR"
"""Environment variable that tells a worker the pid of the process that started it."""
EXIT_ORPHANED = 75
EXIT_FENCED = 76
EXIT_RELEASED = 77

_PR_SET_PDEATHSIG = 1
_PARENT_POLL_S = 0.5


def identity(pid: int) -> str:
    """Name a living process so that no later one, on this machine or another, has the same name.

    The name is made of the boot and the pid namespace (a pid means nothing outside them), the pid,
    and the process's start time (pids are used again).
    """
    return f"{_machine()} {pid} {_start_time(pid)}"


def pid_of(name: str) -> int | None:
    """Return the pid in a name made by :func:`identity`; None for another machine or boot."""
    machine, pid, _ = name.rsplit(" ", 2)
    return int(pid) if machine == _machine() else None


def is_alive(name: str) -> bool:
    """Whether the process of that name still runs here."""
    pid = pid_of(name)
    return pid is not None and (started := _start_time(pid)) != "" and name.endswith(f" {started}")


def kill_group(pid: int | None) -> None:
    """End a worker and everything it started (it leads its own process group)."""
    if pid is None:
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def describe_end(code: int) -> str:
    """Say how a process ended: with which exit code, or killed by which signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # a realtime signal
        return f"killed by signal {-code}"


def end_with_supervisor() -> None:
    """Make this process end when the process that started it ends, for whatever reason.

    On Linux the kernel then sends SIGKILL. A thread that watches the parent's pid does the same on
    other systems, and where the parent ended before the kernel was asked.
    """
    supervisor = int(os.environ.get(SUPERVISOR_VARIABLE, "0")) or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(EXIT_ORPHANED)
    watch_parent(supervisor)


def watch_parent(parent: int) -> None:
    """Start a thread that ends this process within a second after its parent ended.

    Linux can send a signal instead (see :func:`end_with_supervisor`), but sends it already when the
    parent's thread that started this process ends.

    Args:
        parent: process id of the parent.
    """
    threading.Thread(target=_end_without, args=(parent,), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(EXIT_ORPHANED)


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    if not boot.exists():
        return os.uname().nodename.replace(" ", "-")
    return f"{boot.read_text().strip()}/{namespace.stat().st_ino}"


def _start_time(pid: int) -> str:
    """Clock ticks since boot at which the process started; empty when it runs no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "" if sys.platform == "linux" or not _answers(pid) else "-"
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
