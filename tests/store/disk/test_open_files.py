"""The budget of open files, in processes that may open few."""

import resource
import subprocess
import sys

import pytest

from isogloss.errors import ResourceExhausted
from isogloss.store.disk.open_files import check_open_files

LIMITED = """
import resource, sys
from isogloss.errors import ResourceExhausted
from isogloss.store.disk.open_files import check_open_files
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    check_open_files(wanted, "a lane of many sites")
except ResourceExhausted as error:
    print(error)
else:
    print("soft", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def limited(soft: int, hard: int, wanted: int) -> str:
    command = [sys.executable, "-c", LIMITED, *map(str, (soft, hard, wanted))]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_limit_that_is_too_low_is_told_before_a_file_is_opened() -> None:
    said = limited(256, 256, 512)
    assert "a lane of many sites needs 512 open files" in said
    assert "may have 256" in said
    assert "ulimit -n" in said


def test_the_soft_limit_is_raised_as_far_as_is_needed_and_allowed() -> None:
    assert limited(256, 4096, 100).strip() == "soft 256"
    raised = int(limited(256, 4096, 512).split()[1])
    assert 512 < raised < 1024


def test_what_no_limit_holds_is_refused_here_too() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY:
        with pytest.raises(ResourceExhausted, match="record fewer sites"):
            check_open_files(1 << 40, "it")
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
