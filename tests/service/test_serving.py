"""The servers of these tests leave nothing behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

STARTER = """
import sys, threading, time
from pathlib import Path
from tests.service.serving import start_server
starter = threading.Thread(
    target=lambda: print(start_server(Path(sys.argv[1])).process.pid, flush=True)
)
starter.start()
starter.join()
time.sleep(60)
"""


def test_a_server_outlives_the_thread_that_started_it_and_dies_with_its_process(
    tmp_path: Path,
) -> None:
    root = Path(__file__).parents[2]
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "store")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},  # for tests.*, also under PYTHONSAFEPATH
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    try:
        server = psutil.Process(int(starter.stdout.readline()))
        time.sleep(1)
        assert server.status() != psutil.STATUS_ZOMBIE
    finally:
        starter.kill()
        starter.wait()
        starter.stdout.close()
    _, alive = psutil.wait_procs([server], timeout=60)
    for left in alive:
        left.kill()
    assert not alive, "the server runs on without its starter"
