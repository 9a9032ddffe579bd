"""Memory that a process frees and needs again."""

import subprocess
import sys

import pytest

TRY = """
import resource, sys
from isogloss.service.processes.heap import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    keep_freed_memory()
def touch():
    held = [bytearray(1 << 20) for _ in range(16)]
    for each in held:
        each[:: 4096] = b"x" * 256
touch()
before = faults()
for _ in range(20):
    touch()
print((faults() - before) / 320)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_blocks_of_a_mebibyte_are_not_given_back_and_asked_for_again() -> None:
    found = {
        way: float(subprocess.check_output([sys.executable, "-c", TRY, way]))
        for way in ("keep", "as it is")
    }
    assert found["keep"] < 2
    assert found["as it is"] > 20, "else the setting is no longer needed"
