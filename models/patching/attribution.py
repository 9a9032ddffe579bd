"""Attribution patching: the effects of all activations at once, to first order, by gradients."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.hooks import evaluating, splice
from isogloss.models.patching.metrics import Metric, last_logits, measure
from isogloss.models.patching.pairs import TextPairs
from isogloss.models.patching.tracing import Mode, Positions, Trace, ends, finished, run_pairs
from isogloss.models.wrappers import LoadedModel


def attribute(
    model: LoadedModel,
    pairs: TextPairs,
    sites: Sequence[str],
    *,
    positions: Positions = "each",
    metric: Metric = "logit_difference",
    mode: Mode = "denoise",
) -> Trace:
    """Estimate what :func:`isogloss.models.trace` measures, by one pass and its gradients.

    The effect of an activation is ``gradient . (donor - own)``, the gradient taken in the run that
    would be patched (Nanda 2023, attribution patching). It is exact where the model is linear
    between the two, and worst where it is not (a saturated softmax, early layers): compare it with
    the true effects by :func:`agreement`.

    Args:
        model: see :func:`isogloss.models.trace`.
        pairs: clean and corrupt texts.
        sites: names as :func:`isogloss.models.capture` takes them.
        positions: as in :func:`isogloss.models.trace`.
        metric: as in :func:`isogloss.models.trace`; the gradient of ``kl`` is 0 in the clean run,
            so it is refused with ``noise``.
        mode: which run is patched from which.

    Raises:
        UnknownSite, InvalidInput, ShapeError: see :func:`isogloss.models.trace`.
    """
    if metric == "kl" and mode == "noise":
        raise InvalidInput("kl has no gradient in the clean run; use mode='denoise' or another one")
    runs = run_pairs(model, pairs, sites, positions=positions, metric=metric, mode=mode)
    clean, corrupt = ends(runs, pairs, metric)
    kept: dict[str, Tensor] = {}
    with torch.enable_grad(), evaluating(runs.root):
        with splice(runs.root, {site: _keeper(kept, site) for site in sites}):
            logits = last_logits(runs.root, runs.base)
        total = measure(metric, logits, pairs, runs.clean_logits).sum()
        asked = [kept[site] for site in sites]
        gradients = torch.autograd.grad(total, asked, allow_unused=True, materialize_grads=True)
    values = np.empty((len(sites), len(runs.columns)))
    for i, (site, gradient) in enumerate(zip(sites, gradients, strict=True)):
        by_number = gradient * (runs.donor[site] - runs.own[site])
        at_token = by_number.movedim(runs.axes[site], 1).flatten(2).double().sum(-1).mean(0)
        columns = list(runs.columns)
        values[i] = float(at_token.sum()) if columns == [-1] else at_token[columns].cpu().numpy()
    values += corrupt if mode == "denoise" else clean
    return finished(model, pairs, runs, values, sites=sites, metric=metric, mode=mode)


def agreement(estimated: Trace, true: Trace) -> float:
    """Return the Pearson correlation of two traces' effects over the cells of their grid.

    Args:
        estimated: of :func:`attribute`.
        true: of :func:`isogloss.models.trace`, of the same sites and positions.

    Returns:
        The correlation; NaN where a trace is the same everywhere.

    Raises:
        InvalidInput: the grids differ.
    """
    if (estimated.sites, estimated.positions) != (true.sites, true.positions):
        raise InvalidInput(
            "the traces are of other sites or positions than each other; trace the same"
        )
    a, b = estimated.effects.ravel(), true.effects.ravel()
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _keeper(kept: dict[str, Tensor], site: str) -> Callable[[Tensor], Tensor]:
    def keep(found: Tensor) -> Tensor:
        # a node of its own, whose gradient is asked for; the sites before it stay in the graph
        kept[site] = found.clone() if found.requires_grad else found.detach().requires_grad_()
        return kept[site]

    return keep
