"""The query process, apart from a server."""

import subprocess
import sys


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
