"""AuxK of few dead features by GEMMs: its gradients, what it chooses, and where it is not taken."""

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
from isogloss.kernels.cpu.few_dead import are_few, dead_values
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


@pytest.mark.parametrize("dead_features", [3, 40, 64, 65, 150])  # from 65 on entry by entry
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


def test_dead_features_are_chosen_by_value_and_among_equals_by_number() -> None:
    weights = _weights()
    weights.encoder[:4] = weights.encoder[0]  # 0, 1, 2 and 3 are equal on every row
    weights.encoder_bias[:4] = 5.0
    rows = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    dead = torch.tensor([0, 1, 2, 3, 9, 11], dtype=torch.int32)
    found = dead_values(rows, weights, dead, 3, None, Workspace())
    assert found.shape == (64, 16)
    pre = torch.relu(rows @ weights.encoder[dead.long()].T + weights.encoder_bias[dead.long()])
    for row in range(ROWS):
        fires = found[row].nonzero().flatten().tolist()
        order = sorted(range(6), key=lambda n, own=row: (-round(float(pre[own, n]), 4), n))
        assert fires == sorted(n for n in order[:3] if pre[row, n] > 0)
        torch.testing.assert_close(found[row, fires], pre[row, fires])
    assert not found[ROWS:].any()
    assert not found[:, 6:].any()


def test_a_nan_among_dead_features_reaches_the_loss() -> None:
    x, weights = torch.randn(ROWS, WIDTH), _weights()
    x[7, 3] = float("nan")
    dead = torch.zeros(FEATURES, dtype=torch.bool)
    dead[:40] = True
    settings = StepSettings(k=5, learning_rate=1e-3, variance=1.0, aux_k=AUX_K)
    moments = AdamMoments.zeros_like(weights)
    found = train_step_topk(x, weights, moments, settings, step=1, dead=dead)
    assert found.aux_loss != found.aux_loss


def test_up_to_four_times_aux_k_are_few() -> None:
    assert are_few(4 * AUX_K, AUX_K)
    assert not are_few(4 * AUX_K + 1, AUX_K)
