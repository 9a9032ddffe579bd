"""Clean and corrupt texts through a model whose edges are cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import ShapeError
from isogloss.models.circuits.edge_pass import edge_pass
from isogloss.models.circuits.stream import ResidualStream, residual_stream
from isogloss.models.patching.metrics import Metric, check_metric, measure
from isogloss.models.patching.pairs import TextPairs, check_pairs
from isogloss.models.patching.tracing import told_apart
from isogloss.models.resolve import device_of
from isogloss.models.wrappers import LoadedModel


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeRuns:
    """Both runs of some pairs, and the model's residual stream."""

    model: str
    """Name of the model."""
    stream: ResidualStream
    """Where it is written and read."""
    pairs: TextPairs
    """Clean and corrupt texts."""
    metric: Metric
    """What is measured."""
    own: Tensor
    """What each writer adds in the clean run, ``[writers, pairs, tokens, width]``."""
    donor: Tensor
    """In the corrupt run."""
    clean_logits: Tensor
    """At the last position, ``[pairs, vocabulary]``."""
    clean: float
    """The metric of the clean texts, mean over pairs."""
    corrupt: float
    """The metric of the corrupt texts."""

    @property
    def ids(self) -> Tensor:
        """Token ids of the clean texts, where the model is."""
        return self.pairs.clean.to(self.own.device)

    def value(self, kept: NDArray[np.bool_]) -> float:
        """Return the metric of the clean run with only some edges; the others carry corrupt ones.

        In place of what a cut edge's writer adds in this very pass, its reader reads what it adds
        in the corrupt run (Wang et al. 2022, path patching; Hanna et al. 2024).

        Args:
            kept: which edges stay, ``[writers, readers]``.
        """
        cut = torch.from_numpy(self.stream.edges.exist & ~kept)
        with torch.no_grad():
            logits = edge_pass(self.stream, self.ids, _Cut(cut, self.donor))
        return self.measured(logits)

    def faithfulness(self, kept: NDArray[np.bool_]) -> float:
        """Return the share of the way from the corrupt to the clean metric that edges make.

        Args:
            kept: which edges stay, ``[writers, readers]``.
        """
        return (self.value(kept) - self.corrupt) / (self.clean - self.corrupt)

    def measured(self, logits: Tensor) -> float:
        """Return the metric, mean over pairs."""
        return float(measure(self.metric, logits, self.pairs, self.clean_logits).mean())


def edge_runs(
    model: LoadedModel, pairs: TextPairs, metric: Metric = "logit_difference"
) -> EdgeRuns:
    """Check a model and pairs, and run both texts once.

    Args:
        model: a causal language model, see :func:`isogloss.models.load_model`.
        pairs: clean and corrupt texts.
        metric: ``logit_difference``, ``probability`` or ``kl``.

    Raises:
        InvalidInput: the model is not made as :func:`isogloss.models.circuits.stream` takes it,
            texts are longer than its context, or the metric tells no difference between them.
    """
    check_metric(metric)
    check_pairs(model, pairs)
    device = device_of(model.module)
    stream = residual_stream(model, pairs.clean.to(device))
    seen: list[Tensor] = []
    logits: list[Tensor] = []
    with torch.no_grad():
        for ids in (pairs.clean, pairs.corrupt):
            noted = _Noted()
            logits.append(edge_pass(stream, ids.to(device), noted))
            seen.append(torch.stack(noted.outputs))
    values = [float(measure(metric, one, pairs, logits[0]).mean()) for one in logits]
    clean, corrupt = told_apart(values[0], values[1], metric)
    return EdgeRuns(
        model=model.name,
        stream=stream,
        pairs=pairs,
        metric=metric,
        own=seen[0],
        donor=seen[1],
        clean_logits=logits[0],
        clean=clean,
        corrupt=corrupt,
    )


class _Noted:
    """Keeps what writers add."""

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []

    def wrote(self, writer: int, output: Tensor) -> None:
        if writer != len(self.outputs):
            raise ShapeError(f"writer {writer} wrote after {len(self.outputs)} others")
        self.outputs.append(output.clone())

    def added(self, readers: Sequence[int]) -> None:
        return None


class _Cut:
    """Lets readers read, along edges that are cut, what the corrupt run's writers add."""

    def __init__(self, cut: Tensor, donor: Tensor) -> None:
        self._cut, self._donor = cut, donor
        self._less = torch.empty_like(donor)  # corrupt minus what was written in this pass
        self._written = 0

    def wrote(self, writer: int, output: Tensor) -> None:
        self._less[writer] = self._donor[writer] - output
        self._written = writer + 1

    def added(self, readers: Sequence[int]) -> Tensor | None:
        cut = self._cut[: self._written, readers]
        if not cut.any():
            return None
        less = self._less[: self._written]
        weights = cut.T.to(less)
        return (weights @ less.flatten(1)).unflatten(1, less.shape[1:])
