import pytest
import torch
from torch import Tensor

from isogloss.dictionaries.kinds.optimise import (
    column_sums,
    descend,
    feature_totals,
    ordered_sum,
    share_of_warmup,
    weighted_rows,
)
from isogloss.kernels import Codes


def _state(unit: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    decoder = torch.randn(12, 5, generator=generator)
    if unit:
        decoder /= decoder.norm(dim=1, keepdim=True)
    parameters = {"decoder": decoder, "decoder_bias": torch.randn(5, generator=generator)}
    return {
        f"{group}.{name}": tensor.clone() if group == "weights" else torch.zeros_like(tensor)
        for group in ("weights", "first", "second")
        for name, tensor in parameters.items()
    }


def _gradients() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "decoder": torch.randn(12, 5, generator=generator),
        "decoder_bias": torch.randn(5, generator=generator),
    }


def test_sums_are_those_of_float64():
    generator = torch.Generator().manual_seed(0)
    rows, weights = torch.randn(70, 12, generator=generator), torch.randn(70, generator=generator)
    assert ordered_sum(weights) == pytest.approx(float(weights.double().sum()), rel=1e-12)
    torch.testing.assert_close(column_sums(rows), rows.double().sum(0).float())
    torch.testing.assert_close(weighted_rows(weights, rows), weights @ rows)
    codes = Codes(
        values=torch.tensor([[1.0, 2.0], [4.0, 8.0]]),
        indices=torch.tensor([[0, 2], [2, 1]], dtype=torch.int32),
        features=4,
    )
    assert feature_totals(codes).tolist() == [1.0, 8.0, 6.0, 0.0]


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("clip_norm", [None, 0.5, 1e3])
def test_a_step_is_that_of_torchs_adam_on_the_projected_and_shortened_gradient(
    unit_norm: bool, clip_norm: float | None
):
    tensors, gradients = _state(unit_norm), _gradients()
    exact = [tensors[f"weights.{name}"].double().requires_grad_() for name in gradients]
    optimiser = torch.optim.Adam(exact, lr=0.01)
    wanted = [gradient.double() for gradient in gradients.values()]
    if unit_norm:
        along = (wanted[0] * exact[0]).sum(1, keepdim=True)
        wanted[0] = (wanted[0] - along * exact[0]).detach()
    for parameter, gradient in zip(exact, wanted, strict=True):
        parameter.grad = gradient
    norm = float(torch.cat([gradient.flatten() for gradient in wanted]).norm())
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(exact, clip_norm)
    optimiser.step()
    descend(
        tensors,
        gradients,
        step=1,
        learning_rate=0.01,
        unit_norm=unit_norm,
        clip_norm=clip_norm,
    )
    held = torch.cat([tensors[f"first.{name}"].flatten() for name in gradients]) * 10
    shortened = norm if clip_norm is None else min(norm, clip_norm)
    assert float(held.norm()) == pytest.approx(shortened, rel=1e-4)
    decoder = exact[0].detach()
    if unit_norm:
        decoder = decoder / decoder.norm(dim=1, keepdim=True)
    torch.testing.assert_close(tensors["weights.decoder"], decoder.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        tensors["weights.decoder_bias"], exact[1].detach().float(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("step", "total", "warmup", "wanted"),
    [(1, 10, 0.0, 1.0), (1, 10, 0.5, 0.2), (5, 10, 0.5, 1.0), (9, 10, 1.0, 0.9), (1, 3, 0.1, 1.0)],
)
def test_a_penalty_rises_linearly(step: int, total: int, warmup: float, wanted: float):
    assert share_of_warmup(step, total, warmup) == pytest.approx(wanted)
