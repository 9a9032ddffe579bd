"""The query process, apart from a server."""

import subprocess
import sys
from pathlib import Path

import pytest

from isogloss.service.values.addresses import READY
from isogloss.store import Store


def test_a_query_process_is_built_of_nothing_that_writes() -> None:
    code = (
        "import sys, isogloss.service.processes.query\n"
        "print(sorted(m.split('.')[2] for m in sys.modules if m.startswith('isogloss.service.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "query" in done.stdout
    for folder in ("control", "ingest", "jobs", "tasks", "recording", "client"):
        assert f"'{folder}'" not in done.stdout, folder


def test_a_query_process_ends_while_it_still_imports_what_queries_need(tmp_path: Path) -> None:
    Store.open(tmp_path / "store").close()
    command = [sys.executable, "-m", "isogloss.service.processes.query"]
    for number in range(3):
        process = subprocess.Popen(
            [*command, str(tmp_path / "store"), f"unix:{tmp_path}/{number}", "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        with process.stdout, process.stdin:
            assert process.stdout.readline() == READY  # from here on it imports
            process.stdin.close()
            assert process.wait(60) == 0


def test_a_query_process_lasts_as_long_as_the_server_that_started_it(tmp_path: Path) -> None:
    Store.open(tmp_path / "store").close()
    command = [sys.executable, "-m", "isogloss.service.processes.query"]
    command += [str(tmp_path / "store"), f"unix:{tmp_path}/q", "2"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == READY
        process.stdin.write(b"what comes here is not read\n")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.stdin.close()
        assert process.wait(60) == 0
