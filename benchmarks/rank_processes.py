"""Processes that torchrun starts on this machine, and what each of them says in lines of JSON."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_MOST_S = 600


def run_torchrun(
    words: Sequence[str],
    ranks: int,
    *,
    restarts: int = 0,
    more: Mapping[str, str] | None = None,
) -> tuple[list[dict[str, object]], str, int]:
    """Run a program as several ranks.

    Args:
        words: the program and its arguments, as torchrun takes them.
        ranks: how many processes; 0: one, without torchrun.
        restarts: how often all are started again where one ends badly.
        more: further variables of their environment.

    Returns:
        Every object of JSON that stood in a line of its own, what was written as errors, and
        torchrun's exit code.
    """
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    torchrun += ["--max-restarts", str(restarts), "--monitor-interval", "0.05"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    with tempfile.TemporaryDirectory(prefix="isogloss-ranks-") as scratch:
        done = subprocess.run(
            [sys.executable, *(torchrun if ranks else ()), *words],
            env={
                **os.environ,
                "PYTHONPATH": f"{_HERE}{os.pathsep}{_HERE.parent / 'src'}",
                "OMP_NUM_THREADS": "1",
                # else gloo's addresses of a first life stand in the way of the second (torch 2.13)
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
                "TMPDIR": scratch,  # where torchrun leaves directories
                **(more or {}),
            },
            capture_output=True,
            text=True,
            timeout=_MOST_S,
            check=False,
        )
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return said, done.stderr, done.returncode
