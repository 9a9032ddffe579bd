"""A crosscoder is a dictionary of the concatenated width: every operation, against sums by site."""

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

from isogloss.kernels import (
    AdamMoments,
    Codes,
    StepSettings,
    Weights,
    decode,
    decode_loss,
    encode_topk,
    reference,
    sparse_gradients,
    train_step_topk,
)

SITES = (12, 8, 20, 8)
"""Widths of the four sites."""
ROWS, FEATURES, K, AUX_K = 11, 40, 4, 3
DEVICES = ("cpu", "triton")


def path(device: str) -> AbstractContextManager[object]:
    """Where kernels run meanwhile: as the tensors say, or in Triton's interpreter."""
    if device == "cpu":
        return nullcontext()
    return pytest.importorskip("isogloss.kernels.testing.interpreter").interpreter()


def by_site(tensor: Tensor) -> list[Tensor]:
    """The parts of a tensor that belong to each site, in float64."""
    return list(tensor.double().split(SITES, dim=-1))


def activations(x: list[Tensor], encoder: list[Tensor], bias: Tensor) -> Tensor:
    """Pre-activations of a crosscoder: one feature reads all sites; after their ReLU."""
    total = bias.double().clone()
    for part, directions in zip(x, encoder, strict=True):
        total = total + part @ directions.T
    return total.relu()


def best(found: Tensor, k: int) -> tuple[Tensor, Tensor]:
    order = torch.sort(found, dim=1, descending=True, stable=True).indices[:, :k]
    return found.gather(1, order), order


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("device", DEVICES)
def test_encode_sums_over_the_sites(device: str) -> None:
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (ROWS, sum(SITES))).float()  # whole numbers: exact in any order
    encoder = torch.randint(-1, 2, (FEATURES, sum(SITES))).float()
    bias = torch.randint(-3, 4, (FEATURES,)).float()
    with path(device):
        codes = encode_topk(x, encoder, bias, K)
    values, order = best(activations(by_site(x), by_site(encoder), bias), K)
    assert torch.equal(codes.indices, order.int())
    assert torch.equal(codes.values, values.float())


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_decode_and_every_gradient_are_those_of_each_site(device: str, ragged: bool) -> None:
    x, grad, decoder = (drawn(n, rows, sum(SITES)) for n, rows in enumerate((ROWS, ROWS, FEATURES)))
    encoder, bias, decoder_bias = drawn(3, FEATURES, sum(SITES)), drawn(4, FEATURES), drawn(5, 48)
    fixed = encode_topk(x, encoder, bias, K)
    assert (fixed.values > 0).all()
    ordered = fixed.to_ragged()
    with path(device):
        given = ordered if ragged else fixed
        out = decode(given, decoder, decoder_bias)
        left = decode_loss(given, decoder, x, decoder_bias)
        found = sparse_gradients(given, grad, x, decoder)
    again = Codes(
        values=ordered.values.view(ROWS, K),
        indices=ordered.indices.view(ROWS, K),
        features=FEATURES,
    )
    codes = again if ragged else fixed
    values, at = codes.values.double(), codes.indices
    slopes, biases = torch.zeros(ROWS, K).double(), torch.zeros(FEATURES).double()
    squares = torch.zeros(ROWS).double()
    sites = zip(
        *(by_site(tensor) for tensor in (x, grad, decoder, decoder_bias)),
        *(
            tensor.split(SITES, dim=1)
            for tensor in (out, left.residual, found.decoder, found.encoder)
        ),
        strict=True,
    )
    parts = list(sites)
    for _, downhill, directions, *_rest in parts:
        slopes += (downhill[:, None, :] * directions[at.long()]).sum(-1)
    for x_s, grad_s, decoder_s, bias_s, out_s, residual_s, to_decoder, to_encoder in parts:
        want = reference.decode(values, at, decoder_s, bias_s)
        torch.testing.assert_close(out_s, want.float(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(residual_s, (want - x_s).float(), rtol=1e-5, atol=1e-5)
        squares += (want - x_s).square().sum(1)
        dense = torch.zeros(ROWS, FEATURES).double().scatter_(1, at.long(), values)
        torch.testing.assert_close(to_decoder, (dense.T @ grad_s).float(), rtol=1e-5, atol=1e-4)
        dense = torch.zeros(ROWS, FEATURES).double().scatter_(1, at.long(), slopes)
        torch.testing.assert_close(to_encoder, (dense.T @ x_s).float(), rtol=1e-5, atol=1e-4)
        biases = dense.sum(0)
    torch.testing.assert_close(left.squared_norms, squares.float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.values.view(ROWS, K), slopes.float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.encoder_bias, biases.float(), rtol=1e-5, atol=1e-4)


def loss_by_site(
    x: list[Tensor], parameters: list[list[Tensor]], bias: Tensor, dead: Tensor, variance: float
) -> Tensor:
    """Loss of a TopK crosscoder with AuxK (arXiv:2406.04093): errors are summed over the sites."""
    encoder, decoder, decoder_bias = parameters
    centred = [part - offset for part, offset in zip(x, decoder_bias, strict=True)]
    found = activations(centred, encoder, bias)
    values, at = best(found, K)
    kept = torch.zeros_like(found).scatter(1, at, values)
    at_dead = dead.nonzero().squeeze(1)
    values, at = best(found[:, at_dead], AUX_K)
    aux = torch.zeros(len(x[0]), len(at_dead)).double().scatter(1, at, values)
    error, aux_error, spread = (torch.zeros(()).double() for _ in range(3))
    for x_s, directions, offset in zip(x, decoder, decoder_bias, strict=True):
        residual = x_s - (kept @ directions + offset)
        error = error + residual.square().sum()
        target = residual.detach()
        aux_error = aux_error + (aux @ directions[at_dead] - target).square().sum()
        spread = spread + (target - target.mean(0)).square().sum()
    return error / (len(x[0]) * variance) + aux_error / spread / 32


@pytest.mark.parametrize("device", DEVICES)
def test_the_training_step_is_that_of_the_sites_together(device: str) -> None:
    rows = torch.nn.functional.normalize(drawn(0, FEATURES, sum(SITES)))
    weights = Weights(
        encoder=rows.clone(),
        encoder_bias=drawn(1, FEATURES) * 0.1,
        decoder=rows.clone(),
        decoder_bias=drawn(2, sum(SITES)) * 0.1,
    )
    names = ("encoder", "decoder", "decoder_bias")
    parameters = [by_site(weights.named()[name]) for name in names]
    bias = weights.encoder_bias.double().clone()
    moments, dead = AdamMoments.zeros_like(weights), torch.arange(FEATURES) >= 30
    chosen = StepSettings(k=K, learning_rate=1e-3, variance=48.0, aux_k=AUX_K)
    constants = reference.AdamSettings(learning_rate=chosen.learning_rate)
    flat = [*(part for parts in parameters for part in parts), bias]
    held = [(torch.zeros_like(tensor), torch.zeros_like(tensor)) for tensor in flat]
    for step in range(1, 4 if device == "cpu" else 2):
        x = drawn(10 + step, ROWS, sum(SITES))
        with path(device):
            found = train_step_topk(x, weights, moments, chosen, step=step, dead=dead)
        for tensor in flat:
            tensor.requires_grad_()
        loss = loss_by_site(by_site(x), parameters, bias, dead, chosen.variance)
        gradients = list(torch.autograd.grad(loss, flat))
        assert found.loss == pytest.approx(float(loss.detach()), rel=1e-5)
        with torch.no_grad():
            whole = torch.cat(parameters[1], dim=1)  # one norm over all sites
            projected = reference.project_rows(torch.cat(gradients[4:8], dim=1), whole)
            gradients[4:8] = projected.split(SITES, dim=1)
            for tensor, (first, second), gradient in zip(flat, held, gradients, strict=True):
                reference.adam(tensor, first, second, gradient, constants, step)
            normed = reference.normalise_rows(torch.cat(parameters[1], dim=1))
            for tensor, part in zip(parameters[1], normed.split(SITES, dim=1), strict=True):
                tensor.copy_(part)
    wanted = dict(zip(names, (torch.cat(parts, dim=-1) for parts in parameters), strict=True))
    for name, tensor in {**wanted, "encoder_bias": bias}.items():
        # steps of 1e-3: Adam divides by roots, so rounding of small gradients shows
        torch.testing.assert_close(
            weights.named()[name],
            tensor.detach().float(),
            rtol=1e-5,
            atol=2e-6,
            msg=lambda m, n=name: f"{n}: {m}",
        )
