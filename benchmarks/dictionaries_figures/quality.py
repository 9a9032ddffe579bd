"""How well dictionaries reconstruct held-out rows: a study that can be stopped and goes on.

A cell is one training run. It is kept in ``benchmarks/results/dictionaries_quality.json`` under the
hash of its settings, beside the hashes of code and rows; ``study`` runs the cells that are not
there yet, the figures read them. ``--json`` of ``dictionaries.py`` runs the shortest cell again and
compares.

``PYTHONPATH=benchmarks:src python -m dictionaries_figures.quality``
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from house_figures.figure import Figure

from dictionaries_figures.rows import HOLDOUT, held_out, recorded
from isogloss.dictionaries import TrainConfig, evaluate, train

RESULTS = Path(__file__).resolve().parents[1] / "results" / "dictionaries_quality.json"
_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("dictionaries/kinds", "dictionaries/training", "kernels/cpu")
_BASE = TrainConfig(
    settings={"features": 3072, "k": 32}, epochs=1.0, seed=0, holdout=HOLDOUT, checkpoint_every=9999
)
SHORT, LONG = "defaults, 196 x 1024 rows", "defaults, 784 x 1024 rows"
CELLS: Mapping[str, TrainConfig] = {
    SHORT: _BASE,
    LONG: replace(_BASE, epochs=4.0),
    "rate x 0.7": replace(_BASE, learning_rate=0.7 * 3.06e-3),
    "rate x 1.4": replace(_BASE, learning_rate=1.4 * 3.06e-3),
    "batch 256": replace(_BASE, batch_rows=256),
    "batch 1024": replace(_BASE, batch_rows=1024),
    "start at norm 1": replace(_BASE, settings={**_BASE.settings, "init_norm": 1.0}),
    "start at norm 0.1": replace(_BASE, settings={**_BASE.settings, "init_norm": 0.1}),
    "no bound on the gradient": replace(_BASE, settings={**_BASE.settings, "clip_norm": 0.0}),
    "batch_topk": replace(_BASE, kind="batch_topk"),
    "matryoshka_batch_topk": replace(_BASE, kind="matryoshka_batch_topk"),
    "jumprelu": replace(_BASE, kind="jumprelu", settings={"features": 3072, "target_l0": 32.0}),
}
"""Named settings; MiniLM-L6, encoder layer 2, 3,072 features."""


def study(names: Sequence[str] = ()) -> dict[str, dict[str, object]]:
    """Run the cells that are not kept, and return all wanted ones by name; none named: all."""
    kept = _kept()
    for name in names or CELLS:
        if _key(name) not in kept:
            kept[_key(name)] = {"name": name, **measured(CELLS[name])}
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return {name: kept[_key(name)] for name in names or CELLS}


def measured(config: TrainConfig) -> dict[str, object]:
    """Train and evaluate one cell."""
    source, before = recorded(), time.process_time()
    with tempfile.TemporaryDirectory() as place:
        made = train(config, [source], Path(place, "run"))
    cpu = time.process_time() - before
    found = evaluate(made, held_out())
    return {
        "config": config.to_dict(),
        "derived": dict(made.provenance.derived),
        "fvu": found.fvu,
        "usual_fvu": found.usual_fvu,
        "l0": found.l0,
        "dead": found.dead_fraction,
        "cpu_s": round(cpu, 1),
        "weights": made.provenance.weights_sha256,
        "rows": source.reader.revision.id,
        "code": code_hash(),
        "torch": torch.__version__,
    }


def code_hash() -> str:
    """Return the hash of the code that decides the result."""
    digest = hashlib.sha256()
    for folder in _FOLDERS:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _kept() -> dict[str, dict[str, object]]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _key(name: str) -> str:
    text = json.dumps(CELLS[name].to_dict(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _number(cell: Mapping[str, object], name: str) -> float:
    value = cell[name]
    return float(value) if isinstance(value, int | float) else float("nan")


def fvu_defaults() -> Figure:
    """Compare the defaults with the best of the study, at the same rows and k."""
    names = [n for n, c in CELLS.items() if c.kind == "topk" and c.epochs == _BASE.epochs]
    cells = {name: cell for name, cell in study().items() if name in names}
    alive = {n: _number(c, "fvu") for n, c in cells.items() if _number(c, "dead") <= 0.02}
    best = min(alive, key=lambda name: alive[name])
    return Figure(
        figure="fvu_defaults",
        value=round(alive[SHORT] / alive[best], 4) if SHORT in alive else None,
        bar=1.02,
        unit="FVU of the defaults / of the best cell of the study with at most 2 % dead",
        peers={"best": best, **{n: round(_number(c, "fvu"), 5) for n, c in cells.items()}},
        runs=len(cells),
    )


def dead() -> Figure:
    """Take the larger share of dead features of the defaults, at both lengths."""
    cells = study([SHORT, LONG])
    found = {name: _number(cell, "dead") for name, cell in cells.items()}
    return Figure(
        figure="dead",
        value=max(found.values()),
        bar=0.02,
        unit="share of features that fire on none of 16,384 held-out rows",
        peers=dict(found),
        runs=len(found),
    )


def kept_cell() -> Figure:
    """Run the shortest cell again, and compare its weights with the kept ones."""
    cell, again = study([SHORT])[SHORT], measured(CELLS[SHORT])
    same = {name: cell[name] == again[name] for name in ("weights", "rows", "code", "torch")}
    return Figure(
        figure="kept_cell",
        value=abs(_number(again, "fvu") / _number(cell, "fvu") - 1),
        bar=1e-3,
        unit="relative difference of FVU, the cell of the defaults run again",
        peers=dict(same),
    )


if __name__ == "__main__":
    for cell_name, cell_found in study().items():
        print(cell_name, {n: cell_found[n] for n in ("fvu", "l0", "dead", "cpu_s")}, flush=True)
