"""How much each edge matters: estimated by gradients, or measured by cutting it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.circuits.edge_pass import edge_pass
from isogloss.models.circuits.edges import Edges
from isogloss.models.circuits.runs import EdgeRuns, edge_runs
from isogloss.models.patching.metrics import Metric, measure
from isogloss.models.patching.pairs import TextPairs
from isogloss.models.wrappers import LoadedModel

Scoring = Literal["eap", "eap-ig", "ablation"]
SCORINGS: tuple[Scoring, ...] = ("eap", "eap-ig", "ablation")


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeScores:
    """What cutting each edge does to what a model says."""

    model: str
    """Name of the model."""
    edges: Edges
    """Writers, readers, and which edges exist."""
    effects: NDArray[np.float64]
    """Share of the way from the clean to the corrupt metric that cutting an edge makes,
    ``[writers, readers]``; NaN where there is no edge, or where it was not measured."""
    way: Scoring
    """How they were found."""
    metric: Metric
    """What was measured."""
    clean: float
    """The metric of the clean texts, mean over pairs."""
    corrupt: float
    """The metric of the corrupt texts."""

    def highest(self, count: int) -> list[tuple[str, float]]:
        """Return the edges of the greatest effects, either way, with them.

        Args:
            count: how many.
        """
        kept = self.edges.names(self.top(count))
        found = [(name, float(self.effects[self.edges.named([name])][0])) for name in kept]
        return sorted(found, key=lambda one: -abs(one[1]))

    def top(self, count: int) -> NDArray[np.bool_]:
        """Return which edges have the greatest effects, either way, ``[writers, readers]``.

        Args:
            count: how many; of equal ones the first.
        """
        size = np.where(np.isnan(self.effects), -1.0, np.abs(self.effects)).ravel()
        kept = np.zeros(size.shape, dtype=np.bool_)
        kept[np.argsort(-size, kind="stable")[:count]] = True
        return kept.reshape(self.effects.shape) & self.edges.exist


def score_edges(
    model: LoadedModel,
    pairs: TextPairs,
    *,
    way: Scoring = "eap-ig",
    steps: int = 5,
    metric: Metric = "logit_difference",
    edges: Sequence[str] | None = None,
) -> EdgeScores:
    """Score the edges between heads and MLPs of a model.

    * ``eap`` (edge attribution patching, Syed et al. 2023, arXiv 2310.10348): the gradient of the
      metric at what a reader reads in the clean run, times the corrupt less the clean output of the
      writer. One pass with gradients.
    * ``eap-ig`` (Hanna et al. 2024, arXiv 2403.17806, integrated gradients over inputs): the mean
      of the gradients of ``steps`` runs whose embeddings lie between the corrupt and the clean one,
      ``corrupt + i / steps * (clean - corrupt)`` for i from 1 to ``steps``. It sees edges behind a
      saturated softmax, where the clean gradient is 0.
    * ``ablation``: the true effect, by a pass for each edge with that one cut.

    Args:
        model: a causal language model, see ``load_model(name, causal=True)``.
        pairs: clean and corrupt texts.
        way: ``eap``, ``eap-ig`` or ``ablation``.
        steps: of ``eap-ig``.
        metric: ``logit_difference``, ``probability`` or ``kl``; the gradient of ``kl`` is 0 in the
            clean run, so ``eap`` refuses it.
        edges: names of those to measure by ablation, such as ``input->a0.h1<v>``; None: all.

    Raises:
        InvalidInput: a setting cannot be used, the model's residual stream is no sum of heads and
            MLPs, or the metric tells no difference between clean and corrupt texts.
    """
    if way not in SCORINGS:
        raise InvalidInput(f"way is {way!r}; wanted one of {', '.join(SCORINGS)}")
    if steps < 1:
        raise InvalidInput(f"steps is {steps}; wanted 1 at least")
    if way == "eap" and metric == "kl":
        raise InvalidInput("kl has no gradient in the clean run; use eap-ig or ablation")
    if edges is not None and way != "ablation":
        raise InvalidInput(f"{way} scores all edges in one pass; edges= goes with way='ablation'")
    runs = edge_runs(model, pairs, metric)
    known = runs.stream.edges
    if way == "ablation":
        found = _measured(runs, known.exist if edges is None else known.named(list(edges)))
    else:
        found = _attributed(runs, 1 if way == "eap" else steps)
    return EdgeScores(
        model=runs.model,
        edges=known,
        effects=np.where(known.exist, found, np.nan),
        way=way,
        metric=metric,
        clean=runs.clean,
        corrupt=runs.corrupt,
    )


def _measured(runs: EdgeRuns, wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Cut each wanted edge alone."""
    exist = runs.stream.edges.exist
    found = np.full(exist.shape, np.nan)
    for i, j in np.argwhere(wanted & exist).tolist():
        kept = exist.copy()
        kept[i, j] = False
        found[i, j] = (runs.value(kept) - runs.clean) / (runs.corrupt - runs.clean)
    return found


def _attributed(runs: EdgeRuns, steps: int) -> NDArray[np.float64]:
    """Estimate all effects by the gradients at what readers read."""
    own, donor = runs.own, runs.donor
    total: Tensor | None = None
    for i in range(1, steps + 1):
        start = donor[0] + i / steps * (own[0] - donor[0]) if i < steps else None
        leaves = _Leaves(own[0])
        with torch.enable_grad():
            logits = edge_pass(runs.stream, runs.ids, leaves, start)
            value = measure(runs.metric, logits, runs.pairs, runs.clean_logits).mean()
        order = sorted(leaves.read)
        asked = [leaves.read[readers] for readers in order]
        found = torch.autograd.grad(value, asked, allow_unused=True, materialize_grads=True)
        gradient = torch.empty(len(runs.stream.edges.readers), *own.shape[1:]).to(own)
        for readers, one in zip(order, found, strict=True):
            gradient[list(readers)] = one / steps
        total = gradient if total is None else total + gradient
    if total is None:
        raise InvalidInput("no step was asked for")
    by_edge = (donor - own).flatten(1).double() @ total.flatten(1).double().T
    return by_edge.cpu().numpy() / (runs.corrupt - runs.clean)


class _Leaves:
    """Lets each reader read something of its own that is 0, whose gradient can be asked for."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self.read: dict[tuple[int, ...], Tensor] = {}

    def wrote(self, writer: int, output: Tensor) -> None:
        """Take nothing: the clean run's outputs are known."""

    def added(self, readers: Sequence[int]) -> Tensor:
        leaf = self._like.new_zeros(len(readers), *self._like.shape).requires_grad_()
        self.read[tuple(readers)] = leaf
        return leaf
