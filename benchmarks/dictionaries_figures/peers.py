"""Peers' training steps beside ours, step by step in one process; memory, each in its own.

The peers are installed apart, in an environment that also finds isogloss: ``make bench-peers``. It
is ``trainers`` in ``.venv/peers``, or in the directory that ``ISOGLOSS_PEERS`` names. Without it,
or where a peer does not import, its figures have no value but the reason.

``PYTHON -m dictionaries_figures.peers speed|memory PEER FEATURES`` prints what it measured as JSON.
"""

import gc
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import torch
from house_figures.figure import Figure
from torch import Tensor

from dictionaries_figures.peer_trainers import PEERS, Peer, PeerRun
from dictionaries_figures.rows import batches
from dictionaries_figures.speeds import Stepped
from dictionaries_figures.study import peers_python

ROWS, THREADS, SETTLING, TIMED, K, WIDTH = 1024, 2, 8, 12, 32, 384
BARS = {
    "vs_dictionary_learning_3k": ("dictionary_learning", 3072, 4.3),
    "vs_dictionary_learning_12k": ("dictionary_learning", 12_288, 6.3),
    "vs_saelens_3k": ("saelens", 3072, 5.0),
    "vs_saelens_12k": ("saelens", 12_288, 8.0),
    "vs_sparsify_3k": ("sparsify", 3072, 2.8),
    "vs_sparsify_12k": ("sparsify", 12_288, 2.8),
}
_MEMORY_FEATURES = 12_288
_STEPS = 3
Found = dict[str, float] | str
"""What was measured, or the reason why nothing was."""


def beside(name: str) -> Figure:
    """Measure how many times faster our step is than a peer's."""
    peer, features, bar = BARS[name]
    found = _asked(peers_python(), "speed", peer, features)
    value = None if isinstance(found, str) else found["theirs_s"] / found["ours_s"]
    return Figure(
        figure=name,
        value=None if value is None else round(value, 2),
        bar=bar,
        at_most=False,
        unit=f"median step of {peer} / ours, TopK, {features} features, batch 1024, two threads",
        peers={"reason": found} if isinstance(found, str) else dict(found),
        runs=0 if value is None else TIMED,
    )


def memory() -> Figure:
    """Measure peaks beyond weights and moments, each in a process of its own."""
    ours = _asked(Path(sys.executable), "memory", "isogloss", _MEMORY_FEATURES)
    theirs = _asked(peers_python(), "memory", "sparsify", _MEMORY_FEATURES)
    told: dict[str, object] = {"isogloss": ours, "sparsify": theirs}
    value = None
    if not isinstance(ours, str) and not isinstance(theirs, str):
        value = round(ours["beyond_mib"] / theirs["beyond_mib"], 3)
    return Figure(
        figure="memory",
        value=value,
        bar=0.25,
        unit="peak beyond weights and optimiser state / that of sparsify, 12,288 features",
        peers=told,
    )


def _asked(python: Path, what: str, trainer: str, features: int) -> Found:
    if not python.exists():
        return f"{python} is not there: make bench-peers, or name its directory in ISOGLOSS_PEERS"
    done = subprocess.run(
        [python, "-m", "dictionaries_figures.peers", what, trainer, str(features)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "OMP_WAIT_POLICY": "passive",
            "OMP_NUM_THREADS": str(THREADS),
            "SPARSIFY_DISABLE_TRITON": "1",
            "WANDB_MODE": "disabled",
        },
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return last[:200]
    return json.loads(done.stdout.splitlines()[-1])


def _run(features: int) -> PeerRun:
    return PeerRun(
        width=WIDTH, features=features, k=K, batch_rows=ROWS, steps=1000, rate=None, seed=0
    )


def _interleaved(trainer: str, features: int) -> dict[str, float]:
    rows = batches(SETTLING + TIMED, ROWS)
    theirs, ours = (
        PEERS[trainer](_run(features)),
        Stepped("topk", {"features": features, "k": K}, rows),
    )
    seconds: list[float] = []
    cpu: list[tuple[float, float]] = []
    for batch in rows:
        before, began = time.process_time(), time.perf_counter()
        theirs.step(batch.clone())
        seconds.append(time.perf_counter() - began)
        between = time.process_time()
        ours.take(batch)
        cpu.append((between - before, time.process_time() - between))
    of_theirs, of_ours = (statistics.median(one) for one in zip(*cpu[SETTLING:], strict=True))
    return {
        "theirs_s": statistics.median(seconds[SETTLING:]),
        "ours_s": statistics.median(ours.seconds[SETTLING:]),
        "theirs_cpu_s": of_theirs,
        "ours_cpu_s": of_ours,
    }


class _Steps(Protocol):
    def step(self, rows: Tensor) -> None: ...
    def held(self) -> list[Tensor]: ...


class _Own:
    """Our steps, seen as those of a peer."""

    def __init__(self, features: int, rows: Tensor) -> None:
        self._run = Stepped("topk", {"features": features, "k": K}, rows)

    def step(self, rows: Tensor) -> None:
        self._run.take(rows)

    def held(self) -> list[Tensor]:
        return [*self._run.tensors.values()]


def _beyond(trainer: str, features: int) -> dict[str, float]:
    """Measure the peak of a step less what was there before, and less weights and their state."""
    rows = batches(_STEPS, ROWS)

    def made(count: int) -> _Steps:
        peer: Peer | _Own = (
            _Own(count, rows) if trainer == "isogloss" else PEERS[trainer](_run(count))
        )
        for batch in rows:
            peer.step(batch)
        return peer

    small = made(256)  # compiles and imports
    del small
    gc.collect()
    before = _status("VmRSS")
    whole = made(features)
    held = sum(one.numel() * one.element_size() for one in whole.held()) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for batch in rows:
        whole.step(batch)
    return {"beyond_mib": round(_status("VmHWM") - before - held, 1), "held_mib": round(held, 1)}


def _status(name: str) -> float:
    """Return a line of Linux's status of this process, in MiB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) / 1024 if found else float("nan")


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    measure = {"speed": _interleaved, "memory": _beyond}[sys.argv[1]]
    print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
