"""Time of a whole training step beside the encoder's GEMM, interleaved step by step.

Width 384, k = 32, batch 1024, 12,288 features, real rows; each kind as its defaults make it. The
first steps are not timed: thresholds settle and numba compiles in them.
"""

import statistics
import time
from collections.abc import Mapping, Sequence

import torch
from house_figures.figure import Figure
from torch import Tensor

from dictionaries_figures.rows import batches
from isogloss.dictionaries import StepBatch, WiredColumns
from isogloss.dictionaries.initialise import initial_weights
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.training.recipe import default_dead_rows, default_learning_rate
from isogloss.kernels import Workspace

ROWS, FEATURES, THREADS = 1024, 12_288, 2
SETTLING, TIMED = 20, 15
KINDS: Mapping[str, Mapping[str, object]] = {
    "topk": {"features": FEATURES, "k": 32},
    "batch_topk": {"features": FEATURES, "k": 32},
    "matryoshka_batch_topk": {"features": FEATURES, "k": 32},
    "jumprelu": {"features": FEATURES, "target_l0": 32.0},
}
BARS = {
    "step_over_gemm_12k": ("topk", 1.3),
    "batch_topk_over_gemm_12k": ("batch_topk", 1.6),
    "jumprelu_over_gemm_12k": ("jumprelu", 1.6),
}


class Stepped:
    """A kind that takes one step after another."""

    def __init__(self, name: str, settings: Mapping[str, object], rows: Tensor) -> None:
        self.kind = make_kind(name, settings)
        width = rows.shape[-1]
        mean = rows.reshape(-1, width).double().mean(0)
        columns = WiredColumns(reads=range(width), writes=range(width))
        self.tensors = self.kind.start(
            initial_weights(features=self.kind.features, seed=0, connection=columns, mean=mean)
        )
        self.seconds: list[float] = []
        self.fires: list[float] = []
        self._workspace, self._step = Workspace(), 0
        self._silent = torch.zeros(self.kind.features, dtype=torch.int64)

    def take(self, rows: Tensor) -> None:
        """Take a step."""
        self._step += 1
        dead = self._silent >= default_dead_rows(self.kind.features, self.kind.fires)
        batch = StepBatch(
            rows=rows,
            target=rows,
            step=self._step,
            total_steps=1000,
            learning_rate=default_learning_rate(
                rows.shape[1], self.kind.features, rows=1_000_000, batch_rows=len(rows)
            ),
            variance=float(rows.shape[1]),
            dead=dead if bool(dead.any()) else None,
            workspace=self._workspace,
        )
        began = time.perf_counter()
        found = self.kind.step(self.tensors, batch)
        self.seconds.append(time.perf_counter() - began)
        self.fires.append(float(found.fired.sum()) / len(rows))
        self._silent = torch.where(found.fired > 0, 0, self._silent + len(rows))

    def median(self) -> float:
        """Return the median of the timed steps, in seconds."""
        return statistics.median(self.seconds[SETTLING:])


def over_gemm(names: Sequence[str]) -> list[Figure]:
    """Measure the wanted ones of the figures in ``BARS``."""
    if not names:
        return []
    torch.set_num_threads(THREADS)
    rows = batches(SETTLING + TIMED, ROWS)
    runs = {kind: Stepped(kind, settings, rows) for kind, settings in KINDS.items()}
    weight = torch.randn(FEATURES, rows.shape[-1])
    out, gemms = torch.empty(ROWS, FEATURES), list[float]()
    for batch in rows:
        began = time.perf_counter()
        torch.mm(batch, weight.T, out=out)
        gemms.append(time.perf_counter() - began)
        for run in runs.values():
            run.take(batch)
    gemm = statistics.median(gemms[SETTLING:])
    told: dict[str, object] = {"gemm ms": round(1e3 * gemm, 2)}
    for kind, run in runs.items():
        told[f"{kind} ms"] = round(1e3 * run.median(), 2)
        told[f"{kind} features a row"] = round(statistics.median(run.fires[SETTLING:]), 1)
    return [
        Figure(
            figure=name,
            value=round(runs[kind].median() / gemm, 3),
            bar=bar,
            unit="median step / median encoder GEMM, both interleaved, two threads",
            peers=told,
            runs=TIMED,
        )
        for name, (kind, bar) in BARS.items()
        if name in names
    ]
