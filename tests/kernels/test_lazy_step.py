"""Lazy Adam in a training step: features without a term stay, all others move as by exact Adam."""

import pytest
import torch
from torch import Tensor

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

ROWS, WIDTH, FEATURES = 20, 24, 300


def _weights() -> Weights:
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(FEATURES, WIDTH, generator=generator) / WIDTH**0.5
    return Weights(
        encoder=directions.clone(),
        encoder_bias=torch.zeros(FEATURES),
        decoder=directions.clone(),
        decoder_bias=torch.randn(WIDTH, generator=generator) * 0.1,
    )


def _moments() -> AdamMoments:
    """Moments that move every feature where Adam is exact."""
    filled = [
        Weights(**{name: torch.full_like(one, 0.01) for name, one in _weights().named().items()})
        for _ in range(2)
    ]
    return AdamMoments(first=filled[0], second=filled[1])


def _settings(
    *, lazy: bool, clip_norm: float | None = 1e-2, unit_norm: bool = False
) -> StepSettings:
    return StepSettings(
        k=4,
        learning_rate=1e-2,
        variance=float(WIDTH),
        aux_k=4,
        clip_norm=clip_norm,
        unit_norm=unit_norm,
        lazy=lazy,
    )


def _rows() -> Tensor:
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(2))


def _dead(count: int) -> Tensor:
    dead = torch.zeros(FEATURES, dtype=torch.bool)
    dead[torch.randperm(FEATURES, generator=torch.Generator().manual_seed(3))[:count]] = True
    return dead


@pytest.mark.parametrize("dead", [0, 10, 200])  # none, few of them and many
@pytest.mark.parametrize(("clip_norm", "unit_norm"), [(None, True), (1e-2, False)])
@pytest.mark.parametrize("over_batch", [False, True])
def test_what_has_no_term_stays_and_the_rest_moves_as_by_exact_adam(
    dead: int, clip_norm: float | None, unit_norm: bool, over_batch: bool
) -> None:
    take = train_step_batch_topk if over_batch else train_step_topk
    mask = _dead(dead) if dead else None
    made: dict[bool, tuple[Weights, AdamMoments]] = {}
    for lazy in (False, True):
        weights, moments = _weights(), _moments()
        settings = _settings(lazy=lazy, clip_norm=clip_norm, unit_norm=unit_norm)
        take(_rows(), weights, moments, settings, step=2, dead=mask)
        made[lazy] = (weights, moments)
    (exact, of_exact), (lazy, of_lazy) = made[False], made[True]
    moved = (lazy.encoder != _weights().encoder).any(1)
    assert 0 < int(moved.sum()) < FEATURES
    for name, start in _weights().named().items():
        if name == "decoder_bias":
            assert torch.equal(lazy.named()[name], exact.named()[name])
            continue
        assert torch.equal(lazy.named()[name][~moved], start[~moved]), name
        assert torch.equal(lazy.named()[name][moved], exact.named()[name][moved]), name
        for one, whole in ((of_lazy.first, of_exact.first), (of_lazy.second, of_exact.second)):
            assert (one.named()[name][~moved] == 0.01).all(), name
            assert torch.equal(one.named()[name][moved], whole.named()[name][moved]), name


@pytest.mark.parametrize("dead", [0, 10, 200])
@pytest.mark.parametrize("over_batch", [False, True])
def test_the_composed_step_leaves_the_same_features(dead: int, over_batch: bool) -> None:
    fused, composed = _weights(), _weights()
    mask = _dead(dead) if dead else None
    take = train_step_batch_topk if over_batch else train_step_topk
    take(_rows(), fused, _moments(), _settings(lazy=True), step=2, dead=mask)
    composed_step(
        WiredRows(_rows(), None, None),
        composed,
        _moments(),
        _settings(lazy=True),
        2,
        None if mask is None else mask.nonzero().squeeze(1).int(),
        Workspace(),
        over_batch=over_batch,
    )
    start = _weights().encoder
    assert torch.equal((fused.encoder != start).any(1), (composed.encoder != start).any(1))
    torch.testing.assert_close(fused.encoder, composed.encoder, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.decoder, composed.decoder, rtol=1e-4, atol=1e-5)
