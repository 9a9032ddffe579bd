"""A step of a kind beside the documented loss, dense and in float64."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from isogloss.dictionaries import Kind, StepBatch, initial_decoder
from isogloss.dictionaries.initialise import initial_weights
from isogloss.dictionaries.wirings.wiring import WiredColumns
from isogloss.kernels import StepResult, Workspace

ROWS, WIDTH, FEATURES, VARIANCE = 9, 6, 24, 1.7

Parameters = Mapping[str, Tensor]


def rows_of(count: int = ROWS, seed: int = 9) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def started(kind: Kind, seed: int = 2) -> dict[str, Tensor]:
    """The state of a run whose parameters are all random, decoder rows of norm 1."""
    connection = WiredColumns(reads=range(WIDTH), writes=range(WIDTH))
    initial = initial_weights(
        features=kind.features, seed=3, connection=connection, mean=torch.zeros(WIDTH)
    )
    tensors = kind.start(initial)
    generator = torch.Generator().manual_seed(seed)
    for name in sorted(tensors):
        if name.startswith("weights.") and name != "weights.decoder":
            noise = torch.randn(tensors[name].shape, generator=generator)
            size = WIDTH**-0.5 if name == "weights.encoder" else 0.1
            tensors[name].add_(size * noise)
    tensors["weights.decoder"].copy_(initial_decoder(kind.features, WIDTH, 3))
    return tensors


def batch_of(rows: Tensor, *, dead: Tensor | None = None, step: int = 1, of: int = 1) -> StepBatch:
    return StepBatch(
        rows=rows,
        target=rows,
        step=step,
        total_steps=of,
        learning_rate=0.0,
        variance=VARIANCE,
        dead=dead,
        workspace=Workspace(),
    )


def parameters_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters by name, in float64, with gradients."""
    return {
        name.removeprefix("weights."): tensor.double().requires_grad_()
        for name, tensor in tensors.items()
        if name.startswith("weights.")
    }


def without_radial_part(gradient: Tensor, decoder: Tensor) -> Tensor:
    """Project each row orthogonal to the decoder's row."""
    share = (gradient * decoder).sum(1, keepdim=True) / decoder.square().sum(1, keepdim=True)
    return gradient - share * decoder


def without_bound(kind: Kind) -> Kind:
    """The kind without a bound on its gradient."""
    has_one = any(field.name == "clip_norm" for field in fields(kind))
    return replace(kind, clip_norm=0.0) if has_one else kind


def check_step(
    kind: Kind,
    tensors: dict[str, Tensor],
    batch: StepBatch,
    value: Tensor,
    gradients: Mapping[str, Tensor],
    *,
    unit_norm: bool,
) -> StepResult:
    """Take a step at learning rate 0, and compare its loss and every gradient by name.

    After the first step Adam's first moment is a tenth of the gradient.
    """
    decoder = tensors["weights.decoder"].double()
    result = without_bound(kind).step(tensors, batch)
    assert result.loss == pytest.approx(value.item(), rel=1e-5)
    parts = sum(result.parts.values())
    if result.parts:
        assert result.loss == pytest.approx(result.squared_error / batch.variance + parts, rel=1e-5)
    for name, gradient in gradients.items():
        wanted = gradient
        if name == "decoder" and unit_norm:
            wanted = without_radial_part(gradient, decoder)
        found = tensors[f"first.{name}"].double() / (1 - 0.9)
        torch.testing.assert_close(
            found, wanted, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert {f"first.{name}" for name in gradients} == {
        name for name in tensors if name.startswith("first.")
    }
    return result


def check_autograd(
    kind: Kind,
    loss: Callable[[Parameters], Tensor],
    *,
    batch: StepBatch,
    unit_norm: bool,
    finite: Callable[[Parameters], Tensor] | None = None,
) -> StepResult:
    """Compare a step with a dense loss: by finite differences, then by name with the step.

    Args:
        kind: the kind.
        loss: the documented loss of the parameters by name, with what is held constant detached.
        batch: rows of the step.
        unit_norm: whether the decoder's gradient is projected.
        finite: the loss with constants in place of what is held constant; None: ``loss``.
    """
    tensors = started(kind)
    parameters = parameters_of(tensors)
    names = list(parameters)

    def of_values(*values: Tensor) -> Tensor:
        return (finite or loss)(dict(zip(names, values, strict=True)))

    assert torch.autograd.gradcheck(of_values, list(parameters.values()), eps=1e-6, atol=1e-6)
    value = loss(parameters)
    gradients = torch.autograd.grad(value, list(parameters.values()))
    named = dict(zip(names, gradients, strict=True))
    return check_step(kind, tensors, batch, value, named, unit_norm=unit_norm)


def centred(given: Parameters, rows: Tensor) -> Tensor:
    """Rows less what is subtracted before encoding."""
    return rows.double() - given.get("input_bias", given["decoder_bias"])


def best_of_rows(pre: Tensor, k: int) -> Tensor:
    """The k largest of each row, and zeros."""
    return pre.relu() * torch.zeros_like(pre).scatter(1, pre.topk(k, dim=1).indices, 1.0)


def best_of_batch(pre: Tensor, k: int) -> Tensor:
    """The k a row largest of the batch by (value, row, feature), and zeros."""
    order = torch.sort(pre.detach().flatten(), descending=True, stable=True).indices
    kept = torch.zeros(pre.numel(), dtype=pre.dtype)
    kept[order[: k * len(pre)]] = 1.0
    return pre.relu() * kept.view_as(pre)


def topk_family_loss(
    given: Parameters,
    batch: StepBatch,
    choose: Callable[[Tensor], Tensor],
    *,
    aux_k: int,
    sizes: tuple[int, ...] = (FEATURES,),
) -> Tensor:
    """The loss of TopK, BatchTopK and Matryoshka, AuxK's target held constant."""
    norms = given["decoder"].detach().norm(dim=1)
    pre = (centred(given, batch.rows) @ given["encoder"].T + given["encoder_bias"]) * norms
    codes = choose(pre) / norms
    residuals = [
        codes[:, :size] @ given["decoder"][:size] + given["decoder_bias"] - batch.target.double()
        for size in sizes
    ]
    loss = torch.stack([one.square().sum(1).mean() for one in residuals]).mean() / batch.variance
    if batch.dead is None:
        return loss
    held, count = residuals[-1].detach(), int(batch.dead.sum())
    few = best_of_rows(pre.masked_fill(~batch.dead, -torch.inf), min(aux_k, count)) / norms
    aux = (few @ given["decoder"] + held).square().sum()
    return loss + min(count / aux_k, 1.0) * aux / (held - held.mean(0)).square().sum() / 32
