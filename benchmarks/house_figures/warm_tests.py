"""Runs test files in forks of a process that has imported the libraries that they need.

Most of what a mutant costs is the import of pytest, scipy, torch and hypothesis. They are imported
once a process; of the product nothing is, so that each fork imports what was changed. No library
here starts threads as it is imported; grpc and numba, which may, are left to the forks.
"""

import ctypes
import importlib
import os
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, NoReturn

from cosmic_ray.work_item import TestOutcome

_LIBRARIES = (
    *("pytest", "hypothesis", "hypothesis.extra.numpy", "jaxtyping", "beartype", "numpy.testing"),
    *("scipy.sparse", "scipy.sparse.csgraph", "scipy.stats", "scipy.optimize", "torch", "faiss"),
    *("zarr", "jinja2", "rich.console"),
)
_PR_SET_CHILD_SUBREAPER = 36
_ARGUMENTS = (
    *("-x", "-q", "-p", "no:cacheprovider", "-n", "0", "--timeout", "0"),
    *("-W", "ignore:Module already imported"),  # pytest wants to import hypothesis itself
)


def import_libraries() -> None:
    """Import what most tests need, as far as it is installed; call it before ``run_warm``."""
    os.environ.setdefault("TRITON_INTERPRET", "1")  # as tests/conftest.py does, before torch
    for name in _LIBRARIES:
        if find_spec(name.partition(".")[0]) is not None:
            importlib.import_module(name)


def run_warm(files: Sequence[str], limit_s: float) -> tuple[TestOutcome, str]:
    """Run test files in a fork of this process.

    Args:
        files: from the working directory.
        limit_s: seconds after which the fork and what it started are killed.

    What the tests leave running is killed too, in whatever session it is: a changed worker may
    never end. So this process must have no other children.

    Returns:
        Whether all tests passed (``SURVIVED``), and what pytest printed; ``timeout`` where the time
        was over, which counts as killed.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become its children
    with tempfile.TemporaryFile() as output:
        process = os.fork()
        if process == 0:
            _test_and_exit(files, output)
        is_over = _wait(process, limit_s)
        if is_over:
            os.killpg(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        _end_orphans()
        output.seek(0)
        said = output.read().decode("utf-8", "replace")
    if is_over:
        return TestOutcome.KILLED, "timeout"
    passed = os.waitstatus_to_exitcode(status) == 0
    return (TestOutcome.SURVIVED if passed else TestOutcome.KILLED), said


def _end_orphans() -> None:
    """Kill all children of this process, and theirs, which become its own."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while found := children.read_text().split():
        for child in map(int, found):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _wait(process: int, limit_s: float) -> bool:
    """Wait until a process ends; return whether it goes on after the limit."""
    descriptor = os.pidfd_open(process)
    try:
        return not select.select([descriptor], [], [], limit_s)[0]
    finally:
        os.close(descriptor)


def _test_and_exit(files: Sequence[str], output: IO[bytes]) -> NoReturn:
    """Run pytest in this process, which is a fork, and end it."""
    code = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, place in ((nothing, 0), (output.fileno(), 1), (output.fileno(), 2)):
            os.dup2(descriptor, place)
        # changes may come faster than the seconds by which compiled files are told apart
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.argv = ["pytest", *_ARGUMENTS, *files]
        code = int(importlib.import_module("pytest").main(sys.argv[1:]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
