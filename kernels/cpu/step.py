"""The fused training step on the CPU.

Rows: GEMM of a chunk into a reused buffer, selection, then the residual. Features: entries sorted
by feature, and for one feature after another the two gradient rows, projection, Adam and
normalising, all in cache. Every sum has one order, whatever the number of threads.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from isogloss.kernels.cpu import step_loops as loops
from isogloss.kernels.cpu.encode import chunks
from isogloss.kernels.cpu.gradients import sort_by_feature
from isogloss.kernels.cpu.select import fill_topk, merge_all, merge_topk
from isogloss.kernels.cpu.threads import parallel_loops
from isogloss.kernels.step_types import Moments, StepResult, StepSettings, Weights
from isogloss.kernels.workspace import Workspace


class _Batch(NamedTuple):
    """What the passes over the rows leave for the pass over the features."""

    values: Tensor
    """``[rows, k]``."""
    indices: Tensor
    """``[rows, k]`` int32."""
    error: Tensor
    """Reconstruction less target, ``[rows, width]``."""
    scale: float
    """Gradient to the reconstruction / error."""


def train_step(
    x: Tensor,
    weights: Weights,
    moments: Moments,
    settings: StepSettings,
    step: int,
    candidates: Tensor | None,
    workspace: Workspace,
) -> StepResult:
    """``isogloss.kernels.train_step_topk``; ``candidates``: the dead features, int32 ascending."""
    rows = x.shape[0]
    centred = workspace.take("centred", tuple(x.shape))
    torch.sub(x, weights.decoder_bias, out=centred)
    main, aux_codes = _encode(centred, weights, settings, candidates, workspace)
    values, indices = main
    residual = workspace.take("residual", tuple(x.shape))
    row_errors = torch.empty(rows, dtype=torch.float64)
    with parallel_loops():
        loops.residuals(
            x.contiguous().numpy(),
            values.numpy(),
            indices.numpy(),
            weights.decoder.numpy(),
            weights.decoder_bias.numpy(),
            residual.numpy(),
            row_errors.numpy(),
        )
        squared_error = float(loops.ordered_sum(row_errors.numpy())) / rows
    batches = [_Batch(values, indices, residual, 2 / (rows * settings.variance))]
    aux_loss = 0.0
    if aux_codes is not None and candidates is not None:
        share = min(candidates.numel() / settings.aux_k, 1.0)
        aux_loss, batch = _aux(residual, aux_codes, weights, settings, share, workspace)
        batches += [] if batch is None else [batch]
    fired = _update(centred, batches, weights, moments, settings, step, workspace)
    return StepResult(
        squared_error=squared_error,
        loss=squared_error / settings.variance + settings.aux_coefficient * aux_loss,
        aux_loss=aux_loss,
        fired=fired,
    )


_Codes = tuple[Tensor, Tensor]


def _encode(
    centred: Tensor,
    weights: Weights,
    settings: StepSettings,
    candidates: Tensor | None,
    workspace: Workspace,
) -> tuple[_Codes, _Codes | None]:
    """Top-k codes of every row, and those among the candidates from the same pre-activations.

    Places of the latter that hold no value have index 0 and value 0.
    """
    rows = centred.shape[0]

    def room(name: str, k: int) -> _Codes:
        values = workspace.take(f"{name}_values", (rows, k)).zero_()
        return values, workspace.take(f"{name}_indices", (rows, k), torch.int32).zero_()

    (values, indices), aux = room("main", settings.k), None
    if candidates is not None:
        aux = room("aux", min(settings.aux_k, candidates.numel()))
    for chunk in chunks(centred, weights.encoder, weights.encoder_bias, workspace):
        part, start = chunk.rows, chunk.start
        merge_all(chunk.pre, chunk.size, start, values[part], indices[part])
        if aux is not None and candidates is not None:
            bounds = torch.tensor([start, start + chunk.size], dtype=torch.int32)
            first, last = torch.searchsorted(candidates, bounds).tolist()
            if first < last:
                here = torch.stack((candidates[first:last] - start, candidates[first:last]))
                merge_topk(chunk.pre, here, aux[0][part], aux[1][part])
    fill_topk(values, indices)
    return (values, indices), aux


def _aux(
    residual: Tensor,
    codes: _Codes,
    weights: Weights,
    settings: StepSettings,
    share: float,
    workspace: Workspace,
) -> tuple[float, _Batch | None]:
    """AuxK: the residual reconstructed from dead features."""
    rows, width = residual.shape
    error = workspace.take("aux_error", (rows, width))
    row_errors = torch.empty(rows, dtype=torch.float64)
    columns = torch.empty(width, dtype=torch.float64)
    values, indices = codes
    with parallel_loops():
        loops.column_spreads(residual.numpy(), columns.numpy())
        spread = float(loops.ordered_sum(columns.numpy()))
        if spread == 0:
            return 0.0, None
        loops.aux_errors(
            residual.numpy(),
            values.numpy(),
            indices.numpy(),
            weights.decoder.numpy(),
            error.numpy(),
            row_errors.numpy(),
        )
        aux_loss = share / spread * float(loops.ordered_sum(row_errors.numpy()))
    scale = 2 * settings.aux_coefficient * share / spread
    return aux_loss, _Batch(values, indices, error, scale)


def _update(
    centred: Tensor,
    batches: list[_Batch],
    weights: Weights,
    moments: Moments,
    settings: StepSettings,
    step: int,
    workspace: Workspace,
) -> Tensor:
    """Gradients, Adam and normalising, a feature at a time; returns how often each fired."""
    width, features = weights.width, weights.features
    sums = torch.empty(width, dtype=torch.float64)
    partial = workspace.take("partial", (loops.blocks(features), width))
    constants = loops.adam_constants(settings, step)
    orders = [_sorted(batch, features, workspace, f"order{n}") for n, batch in enumerate(batches)]
    fired = orders[0][0].diff().to(torch.int32)
    if len(batches) == 1:
        # a second batch without entries, so that one compiled loop serves both
        batches = [*batches, batches[0]]
        orders.append((torch.zeros(features + 1, dtype=torch.int64), *orders[0][1:]))
    lists = [
        (
            batch.values.view(-1).numpy(),
            *(part.numpy() for part in order),
            batch.error.numpy(),
            loops.single(batch.scale),
        )
        for batch, order in zip(batches, orders, strict=True)
    ]
    parameters, first, second = (
        tuple(tensor.numpy() for tensor in holder.named().values())
        for holder in (weights, moments.first, moments.second)
    )
    error, scale = batches[0].error.numpy(), batches[0].scale
    with parallel_loops():
        loops.column_sums(error, sums.numpy())
        loops.update_features(
            centred.numpy(),
            lists[0],
            lists[1],
            parameters,
            first,
            second,
            partial.numpy(),
            constants,
            settings.unit_norm,
        )
        loops.update_decoder_bias(
            sums.numpy(), scale, partial.numpy(), parameters[3], first[3], second[3], constants
        )
    return fired


def _sorted(
    batch: _Batch, features: int, workspace: Workspace, name: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Starts by feature, entries and rows, as ``sort_by_feature`` fills them."""
    rows, k = batch.values.shape
    starts = torch.zeros(features + 1, dtype=torch.int64)
    entries = workspace.take(f"{name}_entries", (rows * k,), torch.int64)
    owners = workspace.take(f"{name}_rows", (rows * k,), torch.int32)
    sort_by_feature(
        batch.values.view(-1).numpy(),
        batch.indices.view(-1).numpy(),
        (torch.arange(rows + 1) * k).numpy(),
        starts.numpy(),
        entries.numpy(),
        owners.numpy(),
    )
    return starts, entries, owners
