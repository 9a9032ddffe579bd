"""The cells of the quality study, and the file that keeps them: it can be stopped and goes on.

A cell is kept in ``benchmarks/results/dictionaries_quality.json`` under the hash of its settings,
code and data. Code is, for us, what decides a result; for a peer, its release and how it is driven.
Data are the tokens that the model read, and the site. Of another code or other data a cell is run
again. The most telling cells come first.

``PYTHONPATH=benchmarks:src python -m dictionaries_figures.study [NAME ...]`` runs what is missing,
of trainers that are named, or all; peers want the environment of ``make bench-peers``.
"""

import hashlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from dictionaries_figures.cell import Cell
from dictionaries_figures.peer_trainers import PEERS
from dictionaries_figures.rows import RECORDINGS, recorded

RESULTS = Path(__file__).resolve().parents[1] / "results" / "dictionaries_quality.json"
SEEDS = (0, 1, 2)
_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("dictionaries/kinds", "dictionaries/training", "kernels/cpu")
_APART = ("kernels/cpu/screen.py", "kernels/cpu/coactivation.py")
"""Files in them that no training reads."""
_PACKAGES = {"saelens": "sae-lens", "dictionary_learning": "dictionary-learning"}

OURS = Cell(site="minilm", steps=196)
SAELENS = Cell(site="minilm", steps=196, trainer="saelens", batch_rows=512, rate=3e-3)
CHOICE = (
    SAELENS,
    replace(SAELENS, batch_rows=1024),
    replace(SAELENS, rate=2e-3),
    replace(SAELENS, trainer="sparsify_adam"),
    replace(SAELENS, trainer="dictionary_learning"),
    replace(SAELENS, trainer="sparsify", rate=None),
    OURS,
    replace(OURS, rate=0.7 * 2.65e-3),
    replace(OURS, rate=1.4 * 2.65e-3),
    replace(OURS, batch_rows=1024),
    replace(OURS, batch_rows=512),
    replace(OURS, batch_rows=256),
    replace(OURS, settings='{"init_norm": 0.1}'),
)
"""What is chosen from, by seed 0. Peers that were worse by more than 5 % of FVU when they were
given four rates each have one rate here."""
CONDITIONS = (("minilm", 196), ("minilm", 784), ("mpnet", 196), ("mpnet", 784))


def cells() -> Iterator[Cell]:
    """Yield all cells, the most telling first."""
    yield from (SAELENS, OURS)
    for seed in SEEDS[1:]:
        yield from (replace(SAELENS, seed=seed), replace(OURS, seed=seed))
    yield from (one for one in CHOICE if one not in (SAELENS, OURS))
    for site, steps in CONDITIONS[1:]:
        for seed in SEEDS:
            for one in (SAELENS, OURS):
                yield replace(one, site=site, steps=steps, seed=seed)


def study(wanted: Sequence[Cell]) -> dict[Cell, dict[str, object]]:
    """Return what is known of cells; nothing is run."""
    kept = _kept()
    return {cell: kept[key(cell)] for cell in wanted if key(cell) in kept}


def run(cell: Cell) -> dict[str, object]:
    """Run a cell in a process of its own.

    Raises:
        RuntimeError: the process failed, such as for a peer that is not installed.
    """
    python = sys.executable if cell.trainer == "isogloss" else str(peers_python())
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "SPARSIFY_DISABLE_TRITON": "1",
        "WANDB_MODE": "disabled",
    }
    done = subprocess.run(
        [python, "-m", "dictionaries_figures.cell", json.dumps(cell.to_dict())],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise RuntimeError(f"{cell}: {last[:300]}")
    return json.loads(done.stdout.splitlines()[-1])


def peers_python() -> Path:
    """Return the Python of the environment in which the peers are installed.

    It is ``trainers`` in the directory that ``ISOGLOSS_PEERS`` names, else in ``.venv/peers``.
    """
    root = Path(os.environ.get("ISOGLOSS_PEERS", _ROOT / ".venv" / "peers"))
    return root / "trainers" / "bin" / "python"


def key(cell: Cell) -> str:
    """Return the hash under which a cell is kept."""
    whole = {**cell.to_dict(), "code": code_of(cell.trainer), "data": data_of(cell.site)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


@cache
def code_of(trainer: str) -> str:
    """Return the hash of what decides a trainer's result."""
    digest = hashlib.sha256()
    if trainer == "isogloss":
        for folder in _FOLDERS:
            for path in sorted((_ROOT / folder).rglob("*.py")):
                if path.relative_to(_ROOT).as_posix() not in _APART:
                    digest.update(path.read_bytes())
        return digest.hexdigest()[:16]
    package = _PACKAGES.get(trainer, "eai-sparsify")
    pinned = (_ROOT / "benchmarks" / "peers.txt").read_text().splitlines()
    digest.update("".join(line for line in pinned if line.startswith(package)).encode())
    for name in ("__init__", "_optimise", "step", "finish"):
        own = getattr(PEERS[trainer], name, None)
        digest.update(inspect.getsource(own).encode() if inspect.isfunction(own) else b"")
    return digest.hexdigest()[:16]


@cache
def data_of(site: str) -> str:
    """Return the hash of the tokens that were read, with model and site."""
    digest = hashlib.sha256(repr(RECORDINGS[site]).encode())
    digest.update(np.ascontiguousarray(recorded(site).reader.tokens().token_id).tobytes())
    return digest.hexdigest()[:16]


def keep(cell: Cell, found: dict[str, object]) -> None:
    """Write a cell into the file."""
    kept = _kept()
    kept[key(cell)] = {
        **cell.to_dict(),
        **found,
        "code": code_of(cell.trainer),
        "data": data_of(cell.site),
        "processor": processor(),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


@cache
def processor() -> str:
    """Return what this machine computes with: CPU seconds of another compare with none of its."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    pairs = (one.partition(":") for one in lines)
    known = {name.strip(): value.strip() for name, _, value in pairs}
    wide = [one for one in ("avx2", "avx512f", "amx_bf16") if one in known.get("flags", "").split()]
    return " ".join([known.get("model name", "unknown"), *wide])


def _kept() -> dict[str, dict[str, object]]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def main() -> None:
    """Run what is missing."""
    wanted = sys.argv[1:]
    for cell in cells():
        if (not wanted or cell.trainer in wanted) and key(cell) not in _kept():
            try:
                found = run(cell)
            except RuntimeError as error:
                print(error, flush=True)
                continue
            keep(cell, found)
            print(cell, {name: found[name] for name in ("fvu_b", "dead", "cpu_s")}, flush=True)


if __name__ == "__main__":
    main()
