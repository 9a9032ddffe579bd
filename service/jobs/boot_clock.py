"""The clock of leases: seconds since this machine started, which nobody can set.

The wall clock jumps (a time server, a virtual machine that wakes), and a lease counted by it then
ends early or never. All processes of one machine see the same seconds here. They mean nothing on
another machine, or after another start, so a lease also names the start that it was counted from.
"""

import time
from functools import cache
from pathlib import Path


@cache
def boot() -> str:
    """Return the name of this start of this machine."""
    boot_id, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/time")
    if not boot_id.exists():
        return "unknown"
    clocks = namespace.stat().st_ino if namespace.exists() else 0
    return f"{boot_id.read_text().strip()}/{clocks}"


def now_s() -> float:
    """Return the seconds since this machine started, those asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
