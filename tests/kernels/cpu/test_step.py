"""AuxK in the fused step, of any number of dead features: its gradients, and NaNs."""

import pytest
import torch

from isogloss.kernels import (
    AdamMoments,
    StepSettings,
    Weights,
    Workspace,
    train_step_batch_topk,
    train_step_topk,
)
from isogloss.kernels.step import composed_step
from isogloss.kernels.values.step import WiredRows

ROWS, WIDTH, FEATURES, AUX_K = 50, 44, 200, 16


def _weights(target_width: int = WIDTH) -> Weights:
    generator = torch.Generator().manual_seed(1)
    encoder = torch.randn(FEATURES, WIDTH, generator=generator)
    decoder = torch.randn(FEATURES, target_width, generator=generator)
    return Weights(
        encoder=encoder / encoder.norm(dim=1, keepdim=True),
        encoder_bias=torch.randn(FEATURES, generator=generator) * 0.1,
        decoder=decoder / decoder.norm(dim=1, keepdim=True) * 1.3,
        decoder_bias=torch.randn(target_width, generator=generator) * 0.1,
    )


@pytest.mark.parametrize("dead_features", [3, 16, 40, 150])  # aux_k is 16
@pytest.mark.parametrize("target_width", [WIDTH, 20])
@pytest.mark.parametrize(("unit_norm", "clip_norm"), [(True, None), (False, 1e-2)])
@pytest.mark.parametrize("over_batch", [False, True])
def test_a_step_has_the_gradients_of_the_composed_one_for_any_number_of_dead_features(
    dead_features: int,
    target_width: int,
    unit_norm: bool,
    clip_norm: float | None,
    over_batch: bool,
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, WIDTH, generator=generator)
    target = None if target_width == WIDTH else torch.randn(ROWS, 20, generator=generator)
    dead = torch.zeros(FEATURES, dtype=torch.bool)
    dead[torch.randperm(FEATURES, generator=generator)[:dead_features]] = True
    settings = StepSettings(
        k=5,
        learning_rate=0.0,
        variance=float(WIDTH),
        beta1=0.0,
        aux_k=AUX_K,
        unit_norm=unit_norm,
        clip_norm=clip_norm,
    )
    fused, composed = (AdamMoments.zeros_like(_weights(target_width)) for _ in range(2))
    take = train_step_batch_topk if over_batch else train_step_topk
    found = take(x, _weights(target_width), fused, settings, step=1, target=target, dead=dead)
    wanted = composed_step(
        WiredRows(x, target, None),
        _weights(target_width),
        composed,
        settings,
        1,
        dead.nonzero().squeeze(1).int(),
        Workspace(),
        over_batch=over_batch,
    )
    assert found.aux_loss == pytest.approx(wanted.aux_loss, rel=1e-5)
    assert found.loss == pytest.approx(wanted.loss, rel=1e-5)
    for name, gradient in composed.first.named().items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(
            fused.first.named()[name],
            gradient,
            rtol=1e-4,
            atol=2e-6 * scale,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_a_nan_among_dead_features_reaches_the_loss() -> None:
    x, weights = torch.randn(ROWS, WIDTH), _weights()
    x[7, 3] = float("nan")
    dead = torch.zeros(FEATURES, dtype=torch.bool)
    dead[:40] = True
    settings = StepSettings(k=5, learning_rate=1e-3, variance=1.0, aux_k=AUX_K)
    moments = AdamMoments.zeros_like(weights)
    found = train_step_topk(x, weights, moments, settings, step=1, dead=dead)
    assert found.aux_loss != found.aux_loss
