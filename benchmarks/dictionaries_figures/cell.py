"""One training run of the quality study, by us or by a peer, in a process of its own.

Every trainer gets the same rows: those of one site, scaled so that their variance about the mean
is the width, in one order for each seed, without rows of held-out documents. CPU seconds are those
of the steps and of reading. FVU is taken on two parts of the held-out rows: what is chosen is
chosen by part A, what is reported is of part B. A feature is dead that fires on no row of both.

``PYTHON -m dictionaries_figures.cell '{"site": "minilm", "trainer": "saelens", ...}'``
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from dictionaries_figures.peer_trainers import PEERS, PeerRun, Reconstruction
from dictionaries_figures.rows import HOLDOUT, held_out, recorded
from isogloss.dictionaries import TrainConfig, train, training_batches, training_rows
from isogloss.dictionaries.training.recipe import batch_rows_of

FEATURES, K = 3072, 32
_HELD = 16_384
_EVALUATED = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What is trained."""

    site: str
    """One of ``rows.RECORDINGS``."""
    steps: int
    """Rows that are trained on, in units of 1,024."""
    trainer: str = "isogloss"
    """``isogloss``, or one of ``PEERS``."""
    batch_rows: int | None = None
    """Rows of a step; None (ours alone): the default."""
    rate: float | None = None
    """Peak learning rate; None: the trainer's default."""
    seed: int = 0
    """Of the weights and of the order of the rows."""
    settings: str = "{}"
    """JSON of more settings of our TopK."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields."""
        return asdict(self)


def measured(cell: Cell) -> dict[str, object]:
    """Train and evaluate a cell with one thread; FVU of both parts, L0, dead share, CPU seconds."""
    torch.set_num_threads(1)
    reconstruct, cpu, found = (_ours if cell.trainer == "isogloss" else _theirs)(cell)
    held = torch.cat(held_out(_HELD, cell.site)) * _scale(cell.site)
    half = len(held) // 2
    fires = torch.zeros(FEATURES, dtype=torch.int64)
    fvu: list[float] = []
    for part in (held[:half], held[half:]):
        error = 0.0
        for rows in part.split(_EVALUATED):
            made = reconstruct(rows)
            error += float((made.rows.double() - rows.double()).square().sum())
            fires += made.fires.sum(0)
        fvu.append(error / float((part.double() - part.double().mean(0)).square().sum()))
    return {
        "fvu_a": fvu[0],
        "fvu_b": fvu[1],
        "l0": float(fires.sum()) / len(held),
        "dead": float((fires == 0).double().mean()),
        "cpu_s": round(cpu, 1),
        **found,
    }


_Trained = tuple[Callable[[Tensor], Reconstruction], float, dict[str, object]]


def _ours(cell: Cell) -> _Trained:
    source = recorded(cell.site)
    each = batch_rows_of(TrainConfig(settings={}, batch_rows=cell.batch_rows))
    epoch = int(training_rows(source.reader, HOLDOUT).sum()) // each
    config = TrainConfig(
        settings={"features": FEATURES, "k": K, **json.loads(cell.settings)},
        batch_rows=cell.batch_rows,
        epochs=cell.steps * 1024 // each / epoch,
        learning_rate=cell.rate,
        seed=cell.seed,
        holdout=HOLDOUT,
        checkpoint_every=10**9,
    )
    before = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        made = train(config, [source], Path(place, "run"))
    cpu, scale = time.process_time() - before, _scale(cell.site)

    def reconstruct(rows: Tensor) -> Reconstruction:
        codes = made.encode(rows / scale)
        fires = torch.zeros(len(rows), FEATURES, dtype=torch.bool)
        fires.scatter_(1, codes.indices.long(), codes.values > 0)
        return Reconstruction(made.decode(codes) * scale, fires)

    known: dict[str, object] = {"weights": made.provenance.weights_sha256}
    return reconstruct, cpu, {**known, "derived": dict(made.provenance.derived)}


def _theirs(cell: Cell) -> _Trained:
    each = cell.batch_rows or 1024
    source = recorded(cell.site)
    steps = cell.steps * 1024 // each
    run = PeerRun(
        width=source.width,
        features=FEATURES,
        k=K,
        batch_rows=each,
        steps=steps,
        rate=cell.rate,
        seed=cell.seed,
    )
    scale = _scale(cell.site)
    batches = training_batches(
        source.reader,
        [source.site],
        seed=cell.seed,
        batch_rows=each,
        keep=training_rows(source.reader, HOLDOUT),
        start_step=0,
        stop_step=steps,
        scale=scale,
        depth=0,
    )
    before = time.process_time()
    peer = PEERS[cell.trainer](run)
    for batch in batches:
        peer.step(batch.rows)
    peer.finish()
    return peer.reconstruct, time.process_time() - before, {}


@cache
def _scale(site: str) -> float:
    """Return what the rows are multiplied by: sqrt(width / variance of held-out rows)."""
    rows = torch.cat(held_out(_HELD, site)).double()
    variance = float((rows - rows.mean(0)).square().sum(1).mean())
    return (rows.shape[1] / variance) ** 0.5


if __name__ == "__main__":
    print(json.dumps(measured(Cell(**json.loads(sys.argv[1])))))
