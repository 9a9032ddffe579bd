"""Memory that a process frees and needs again."""

import subprocess
import sys

import pytest

from isogloss.service.processes import heap

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


CYCLES = """
import gc, weakref
from isogloss.service.processes.heap import seldom_look_for_cycles

class Held:
    pass

gc.collect()
before = len(gc.get_objects())
seldom_look_for_cycles()
print(before, len(gc.get_objects()), gc.get_threshold()[0])
held = Held()
held.itself = held
seen = weakref.ref(held)
del held
made = []
while seen() is not None and len(made) < 1_000_000:
    made.append([])
print(len(made))
"""


def test_what_is_there_at_the_start_is_not_looked_through_and_new_cycles_are_found() -> None:
    said = subprocess.check_output([sys.executable, "-c", CYCLES], text=True).split()
    before, after, threshold, made = map(int, said)
    assert after < before / 100
    assert threshold == heap._NEW_OBJECTS
    assert made <= threshold
