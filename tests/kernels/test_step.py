"""The training step: fused against unfused against the float64 reference; bits; AuxK; bad input."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import (
    AdamMoments,
    StepSettings,
    Weights,
    Workspace,
    reference,
    train_step_batch_topk,
    train_step_topk,
)
from isogloss.kernels.step import composed_step
from isogloss.kernels.values.step import WiredRows, inside_columns

ROWS, WIDTH, FEATURES, K = 64, 48, 200, 5
NAMES = ("encoder", "encoder_bias", "decoder", "decoder_bias")


def start(features: int = FEATURES, width: int = WIDTH) -> Weights:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(features, width, generator=generator)
    rows /= rows.norm(dim=1, keepdim=True)
    return Weights(
        encoder=rows.clone(),
        encoder_bias=torch.randn(features, generator=generator) * 0.1,
        decoder=rows.clone(),
        decoder_bias=torch.randn(width, generator=generator) * 0.1,
    )


def settings(**changes: float) -> StepSettings:
    return StepSettings(
        k=K,
        learning_rate=1e-3,
        variance=float(WIDTH),
        aux_k=int(changes.get("aux_k", 16)),
        unit_norm=bool(changes.get("unit_norm", True)),
    )


def close(got: Weights, want: Weights | tuple[Tensor, ...], tolerance: float) -> None:
    wanted = tuple(want.named().values()) if isinstance(want, Weights) else want
    for name, tensor in zip(NAMES, wanted, strict=True):
        torch.testing.assert_close(
            got.named()[name],
            tensor.detach().float(),
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_two_hundred_steps_equal_the_unfused_and_the_float64_path() -> None:
    torch.manual_seed(0)
    x, dead = torch.randn(200, ROWS, WIDTH), torch.rand(FEATURES) < 0.2
    candidates = dead.nonzero().squeeze(1).int()
    fused, composed = start(), start()
    fused_moments, composed_moments = (
        AdamMoments.zeros_like(fused),
        AdamMoments.zeros_like(composed),
    )
    exact = [tensor.double().requires_grad_() for tensor in start().named().values()]
    moments = [[torch.zeros_like(tensor) for tensor in exact] for _ in range(2)]
    scratch, chosen = Workspace(), settings()
    constants = reference.AdamSettings(learning_rate=chosen.learning_rate)
    for n in range(200):
        aux = n % 3 > 0
        one = train_step_topk(
            x[n],
            fused,
            fused_moments,
            chosen,
            step=n + 1,
            dead=dead if aux else None,
            workspace=scratch,
        )
        two = composed_step(
            WiredRows(x[n], None, None),
            composed,
            composed_moments,
            chosen,
            n + 1,
            candidates if aux else None,
            scratch,
        )
        three = reference.topk_loss(
            x[n].double(),
            (exact[0], exact[1], exact[2], exact[3]),
            k=K,
            variance=chosen.variance,
            aux_k=chosen.aux_k,
            dead=dead if aux else None,
        )
        gradients = list(torch.autograd.grad(three.loss, exact))
        with torch.no_grad():
            gradients[2] = reference.project_rows(gradients[2], exact[2])
            for i, gradient in enumerate(gradients):
                reference.adam(exact[i], moments[0][i], moments[1][i], gradient, constants, n + 1)
            exact[2].copy_(reference.normalise_rows(exact[2]))
        for name in ("loss", "aux_loss", "squared_error"):
            wanted = getattr(three, name.replace("aux_loss", "aux")).item()
            assert getattr(one, name) == pytest.approx(wanted, rel=5e-6), (n, name)
            assert getattr(two, name) == pytest.approx(wanted, rel=5e-6), (n, name)
        assert torch.equal(one.fired, (three.activations > 0).sum(0).int())
        assert torch.equal(one.fired, two.fired)
    # 200 steps of Adam at 1e-3 move a weight by up to 0.2; 2e-5 of that is rounding, carried on
    close(fused, (exact[0], exact[1], exact[2], exact[3]), 4e-6)
    close(fused, composed, 4e-6)


@pytest.mark.parametrize("unit_norm", [True, False])
def test_one_step_without_aux_keeps_or_frees_the_decoder_norm(unit_norm: bool) -> None:
    torch.manual_seed(0)
    weights = start()
    train_step_topk(
        torch.randn(ROWS, WIDTH),
        weights,
        AdamMoments.zeros_like(weights),
        settings(unit_norm=unit_norm),
        step=1,
    )
    norms = weights.decoder.norm(dim=1)
    assert torch.allclose(norms, torch.ones(FEATURES), atol=1e-6) == unit_norm


def test_aux_gradients_reach_encoder_and_decoder_as_in_the_float64_reference() -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(ROWS, WIDTH), start()
    weights.encoder_bias[:100] = -1e6  # never among the top k, so what moves them is AuxK alone
    weights.encoder_bias[50:100] = -3.0
    dead = torch.zeros(FEATURES, dtype=torch.bool)
    dead[:100] = True
    exact = [tensor.double().requires_grad_() for tensor in weights.named().values()]
    loss = reference.topk_loss(
        x.double(),
        (exact[0], exact[1], exact[2], exact[3]),
        k=K,
        variance=float(WIDTH),
        aux_k=16,
        dead=dead,
    )
    gradients = torch.autograd.grad(loss.loss, exact)
    # with beta1 = 0, the first moment after one step is the gradient itself
    moments = AdamMoments.zeros_like(weights)
    chosen = StepSettings(
        k=K, learning_rate=0.0, variance=float(WIDTH), beta1=0.0, unit_norm=False, aux_k=16
    )
    result = train_step_topk(x, weights, moments, chosen, step=1, dead=dead)
    assert result.aux_loss == pytest.approx(loss.aux.item(), rel=1e-6)
    for name, wanted in zip(NAMES, gradients, strict=True):
        got = moments.first.named()[name]
        torch.testing.assert_close(
            got, wanted.float(), rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert moments.first.encoder[50:100].abs().sum() > 0
    assert moments.first.decoder[50:100].abs().sum() > 0
    assert not moments.first.encoder[:50].any()


def test_reference_loss_passes_gradcheck_with_aux() -> None:
    torch.manual_seed(0)
    x, dead = torch.randn(6, 4, dtype=torch.float64), torch.tensor([True] * 4 + [False] * 5)
    parameters = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((9, 4), (9,), (9, 4), (4,))
    ]

    def loss(*given: Tensor) -> Tensor:
        found = reference.topk_loss(
            x, (given[0], given[1], given[2], given[3]), k=2, variance=3.0, aux_k=3, dead=dead
        )
        # the target of AuxK is held fixed, which finite differences cannot do: without it here
        return found.squared_error

    assert torch.autograd.gradcheck(loss, parameters)


def test_no_dead_feature_or_no_mask_means_no_aux() -> None:
    torch.manual_seed(0)
    x = torch.randn(ROWS, WIDTH)
    runs = []
    for dead in (None, torch.zeros(FEATURES, dtype=torch.bool)):
        weights = start()
        result = train_step_topk(
            x, weights, AdamMoments.zeros_like(weights), settings(), step=1, dead=dead
        )
        assert result.aux_loss == 0.0
        runs.append(weights)
    assert torch.equal(runs[0].encoder, runs[1].encoder)


def test_fewer_dead_features_than_aux_k_scale_the_loss() -> None:
    torch.manual_seed(0)
    x, dead = torch.randn(ROWS, WIDTH), torch.zeros(FEATURES, dtype=torch.bool)
    dead[[3, 77, 140]] = True
    weights = start()
    exact = [tensor.double() for tensor in weights.named().values()]
    wanted = reference.topk_loss(
        x.double(),
        (exact[0], exact[1], exact[2], exact[3]),
        k=K,
        variance=float(WIDTH),
        aux_k=16,
        dead=dead,
    )
    found = train_step_topk(
        x, weights, AdamMoments.zeros_like(weights), settings(), step=1, dead=dead
    )
    assert found.aux_loss == pytest.approx(wanted.aux.item(), rel=1e-6)


def test_a_nan_row_makes_the_loss_nan() -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(ROWS, WIDTH), start()
    x[3, 4] = float("nan")
    result = train_step_topk(x, weights, AdamMoments.zeros_like(weights), settings(), step=1)
    assert result.loss != result.loss
    assert weights.decoder_bias.isnan().any()


def _dense_batch_loss(
    x: Tensor,
    given: list[Tensor],
    edges: tuple[int, ...],
    dead: Tensor | None,
    aux_k: int,
    target: Tensor | None = None,
) -> Tensor:
    """BatchTopK with prefixes and AuxK, dense, by autograd; the choice by (value, row, feature)."""
    encoder, encoder_bias, decoder, decoder_bias = given
    pre = (x - decoder_bias if target is None else x) @ encoder.T + encoder_bias
    x = x if target is None else target
    order = torch.sort(pre.detach().flatten(), descending=True, stable=True).indices
    kept = torch.zeros(pre.numel(), dtype=x.dtype)
    kept[order[: K * len(x)]] = 1.0
    codes = pre.relu() * kept.view_as(pre)
    error = torch.zeros((), dtype=x.dtype)
    residual = x
    for edge in edges:
        residual = x - codes[:, :edge] @ decoder[:edge] - decoder_bias
        error = error + residual.square().sum(1).mean() / len(edges)
    loss = error / WIDTH
    if dead is not None:
        target, among = residual.detach(), pre[:, dead].relu()
        best = torch.sort(among.detach(), dim=1, descending=True, stable=True).indices[:, :aux_k]
        among = among * torch.zeros_like(among).scatter(1, best, 1.0)
        missing = (among @ decoder[dead] - target).square().sum()
        share = min(int(dead.sum()) / aux_k, 1.0)
        loss = loss + share * missing / (target - target.mean(0)).square().sum() / 32
    return loss


@pytest.mark.parametrize("edges", [(), (20, 90, FEATURES)])
@pytest.mark.parametrize("clip_norm", [None, 1e-2])
@pytest.mark.parametrize("path", ["fused", "composed"])
def test_a_step_over_the_batch_has_the_gradients_of_the_dense_float64_loss(
    edges: tuple[int, ...], clip_norm: float | None, path: str
) -> None:
    torch.manual_seed(0)
    x, weights, dead = torch.randn(ROWS, WIDTH), start(), torch.rand(FEATURES) < 0.2
    exact = [tensor.double().requires_grad_() for tensor in weights.named().values()]
    loss = _dense_batch_loss(x.double(), exact, edges or (FEATURES,), dead, 16)
    gradients = list(torch.autograd.grad(loss, exact))
    gradients[2] = reference.project_rows(gradients[2], exact[2]).detach()
    norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    shorter = 1.0 if clip_norm is None else clip_norm / norm
    assert shorter <= 1.0
    chosen = StepSettings(
        k=K,
        learning_rate=0.0,
        variance=float(WIDTH),
        beta1=0.0,
        aux_k=16,
        prefixes=edges,
        clip_norm=clip_norm,
    )
    moments = AdamMoments.zeros_like(weights)
    if path == "fused":
        result = train_step_batch_topk(x, weights, moments, chosen, step=1, dead=dead)
    else:
        candidates = dead.nonzero().squeeze(1).int()
        wired = WiredRows(x, None, None)
        result = composed_step(
            wired, weights, moments, chosen, 1, candidates, Workspace(), over_batch=True
        )
    assert result.loss == pytest.approx(loss.item(), rel=1e-6)
    assert int(result.fired.sum()) == K * ROWS
    assert result.threshold is not None
    assert result.threshold > 0
    scale = float(gradients[0].abs().max()) * shorter
    for name, wanted in zip(NAMES, gradients, strict=True):
        torch.testing.assert_close(
            moments.first.named()[name],
            (wanted * shorter).float(),
            rtol=1e-4,
            atol=1e-5 * scale,
            msg=lambda m, n=name: f"{n}: {m}",
        )


@pytest.mark.parametrize("edges", [(), (20, 90, FEATURES)])
@pytest.mark.parametrize("wiring", ["other_rows", "columns"])
@pytest.mark.parametrize("path", ["fused", "composed"])
def test_a_step_to_other_rows_or_of_some_columns_has_the_gradients_of_the_dense_float64_loss(
    edges: tuple[int, ...], wiring: str, path: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(ROWS, WIDTH, generator=generator), start()
    dead, target, columns = torch.rand(FEATURES, generator=generator) < 0.2, None, None
    if wiring == "other_rows":
        target = torch.randn(ROWS, 20, generator=generator)
        other = start(width=20)
        weights = Weights(**weights.named() | {n: other.named()[n] for n in NAMES[2:]})
    else:
        columns = torch.tensor([[0, WIDTH], [0, 16], [16, WIDTH]])[torch.arange(FEATURES) % 3]
        for matrix in (weights.encoder, weights.decoder):
            matrix.masked_fill_(~inside_columns(columns, WIDTH), 0.0)
    exact = [tensor.double().requires_grad_() for tensor in weights.named().values()]
    goal = None if target is None else target.double()
    loss = _dense_batch_loss(x.double(), exact, edges or (FEATURES,), dead, 16, goal)
    gradients = list(torch.autograd.grad(loss, exact))
    if columns is not None:
        for n in (0, 2):
            gradients[n] = gradients[n].masked_fill(~inside_columns(columns, WIDTH), 0.0)
    gradients[2] = reference.project_rows(gradients[2], exact[2]).detach()
    norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    chosen = StepSettings(
        k=K,
        learning_rate=1e-3,
        variance=float(WIDTH),
        beta1=0.0,
        aux_k=16,
        prefixes=edges,
        clip_norm=norm / 2,
    )
    moments, wired = AdamMoments.zeros_like(weights), WiredRows(x, target, columns)
    if path == "fused":
        result = train_step_batch_topk(
            x, weights, moments, chosen, step=1, target=target, columns=columns, dead=dead
        )
    else:
        found = dead.nonzero().squeeze(1).int()
        result = composed_step(
            wired, weights, moments, chosen, 1, found, Workspace(), over_batch=True
        )
    assert result.loss == pytest.approx(loss.item(), rel=1e-6)
    assert result.residual is not None
    assert result.residual.shape == (ROWS, weights.target_width)
    assert result.squared_error == pytest.approx(
        float(result.residual.double().square().sum(1).mean()), rel=1e-5
    )
    mean = result.residual if result.mean_residual is None else result.mean_residual
    assert (result.mean_residual is not None) == bool(edges)
    of_bias = 2 / ROWS / WIDTH * mean.double().sum(0)
    if wiring == "other_rows":
        torch.testing.assert_close(of_bias, gradients[3], rtol=1e-4, atol=1e-6)
    for name, wanted in zip(NAMES, gradients, strict=True):
        torch.testing.assert_close(
            moments.first.named()[name],
            (wanted / 2).float(),
            rtol=1e-4,
            atol=1e-5 * float(gradients[0].abs().max()),
            msg=lambda m, n=name: f"{n}: {m}",
        )
    if columns is not None:
        outside = ~inside_columns(columns, WIDTH)
        assert not bool(weights.encoder[outside].any() or weights.decoder[outside].any())


def test_rows_and_columns_that_do_not_fit_are_refused() -> None:
    weights, x = start(), torch.zeros(4, WIDTH)
    moments, columns = AdamMoments.zeros_like(weights), torch.zeros(FEATURES, 2).long()
    with pytest.raises(InvalidInput, match="columns and target are both given"):
        train_step_topk(x, weights, moments, settings(), step=1, target=x, columns=columns)
    with pytest.raises(ShapeError, match="target"):
        train_step_topk(x, weights, moments, settings(), step=1, target=x[:, 1:])
    narrow = Weights(
        **weights.named()
        | {"decoder": weights.decoder[:, 1:].contiguous(), "decoder_bias": torch.zeros(WIDTH - 1)}
    )
    with pytest.raises(ShapeError, match="decoder is"):
        train_step_topk(x, narrow, moments, settings(), step=1)
    with pytest.raises(ShapeError, match="columns"):
        train_step_topk(x, weights, moments, settings(), step=1, columns=columns[:, :1])


def test_a_bound_that_the_gradient_keeps_changes_no_bit() -> None:
    torch.manual_seed(0)
    x, runs = torch.randn(ROWS, WIDTH), []
    for clip_norm in (None, 1e6):
        weights = start()
        chosen = StepSettings(k=K, learning_rate=1e-3, variance=float(WIDTH), clip_norm=clip_norm)
        train_step_topk(x, weights, AdamMoments.zeros_like(weights), chosen, step=1)
        runs.append(weights)
    assert all(torch.equal(runs[0].named()[name], runs[1].named()[name]) for name in NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefixes": (20, 90)}, "prefixes end at 90; the last must be all 200"),
        ({"prefixes": (90, 20, 200)}, r"prefixes are \[90, 20, 200\]"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
    ],
)
def test_prefixes_and_bounds_that_cannot_be_are_refused(
    changes: dict[str, object], message: str
) -> None:
    weights = start()
    moments = AdamMoments.zeros_like(weights)

    def take() -> None:
        chosen = StepSettings(k=K, learning_rate=0.0, variance=1.0, **changes)  # pyright: ignore[reportArgumentType] (wrong on purpose)
        train_step_batch_topk(torch.randn(4, WIDTH), weights, moments, chosen, step=1)

    with pytest.raises(InvalidInput, match=message):
        take()


_BITS = """
import hashlib, sys
import torch
from isogloss.kernels import (
    AdamMoments, StepSettings, Weights, Workspace, train_step_batch_topk, train_step_topk,
)

# with the share of dead features: entry by entry above 4 * 24 of them, else by GEMMs; few rows of
# great width are those whose sums MKL cuts between its threads
SHAPES = (
    (96, 1056, 1072, 8, 0.05), (40, 2304, 300, 4, 0.2),
    (130, 130, 1031, 9, 0.3), (600, 48, 3000, 16, 0.03), (7, 100, 513, 32, 0.3),
    (100, 64, 100, 3, 0.3), (1000, 384, 1500, 8, 0.01),
)

def digest_of_training(threads):
    torch.set_num_threads(threads)
    digest = hashlib.sha256()
    for rows, width, features, k, share in SHAPES:
        generator = torch.Generator().manual_seed(1)
        draw = lambda *shape: torch.randn(*shape, generator=generator)
        encoder = draw(features, width)
        weights = Weights(
            encoder=encoder,
            encoder_bias=draw(features),
            decoder=encoder / width**0.5,
            decoder_bias=draw(width),
        )
        moments, scratch = AdamMoments.zeros_like(weights), Workspace()
        dead = torch.rand(features, generator=generator) < share
        plain, bound = (
            StepSettings(
                k=k, learning_rate=1e-3, variance=float(width), aux_k=24, prefixes=prefixes,
                clip_norm=clip_norm,
            )
            for prefixes, clip_norm in (((), None), ((features // 3, features), 0.01))
        )
        for step in range(1, 8):
            take = train_step_topk if step < 5 else train_step_batch_topk
            settings = plain if step < 4 or step == 7 else bound
            result = take(
                draw(rows, width), weights, moments, settings, step=step, dead=dead,
                workspace=scratch,
            )
            digest.update(repr((result.loss, result.aux_loss)).encode())
            digest.update(result.fired.numpy().tobytes())
        for holder in (weights, moments.first, moments.second):
            for tensor in holder.named().values():
                digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()

for threads in sys.argv[1:]:
    print(digest_of_training(int(threads)))
"""


@pytest.mark.timeout(900)  # may compile, and the machine may be busy
def test_bits_are_the_same_for_one_two_and_four_threads_and_run_to_run() -> None:
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4", "OMP_NUM_THREADS": "4"}
    digests: list[str] = []
    for threads in (("1", "2", "4"), ("2",)):
        done = subprocess.run(
            [sys.executable, "-c", _BITS, *threads],
            capture_output=True,
            text=True,
            check=True,
            timeout=800,
            env=environment,
        )
        digests += done.stdout.split()
    assert len(digests) == 4
    assert len(set(digests)) == 1


def test_the_workspace_is_reused_and_changes_nothing() -> None:
    torch.manual_seed(0)
    x, scratch = torch.randn(3, ROWS, WIDTH), Workspace()
    with_it, without = start(), start()
    one, two = AdamMoments.zeros_like(with_it), AdamMoments.zeros_like(without)
    sizes = []
    for n in range(3):
        train_step_topk(x[n], with_it, one, settings(), step=n + 1, workspace=scratch)
        train_step_topk(x[n], without, two, settings(), step=n + 1)
        sizes.append(scratch.nbytes)
    assert sizes[0] == sizes[2] > 0
    assert torch.equal(with_it.encoder, without.encoder)


def test_steps_refuse_what_does_not_fit() -> None:
    weights = start()
    moments, x = AdamMoments.zeros_like(weights), torch.zeros(4, WIDTH)
    with pytest.raises(ShapeError, match=r"x is \(4, 47\); \[\*, 48\] is wanted"):
        train_step_topk(x[:, 1:], weights, moments, settings(), step=1)
    with pytest.raises(ShapeError, match="x has no rows"):
        train_step_topk(x[:0], weights, moments, settings(), step=1)
    with pytest.raises(InvalidInput, match="step is 0; steps count from 1"):
        train_step_topk(x, weights, moments, settings(), step=0)
    with pytest.raises(ShapeError, match=r"dead is \(3,\); \[200\] is wanted"):
        train_step_topk(x, weights, moments, settings(), step=1, dead=torch.ones(3).bool())
    with pytest.raises(ShapeError, match=r"dead is torch\.float32; torch\.bool is wanted"):
        train_step_topk(x, weights, moments, settings(), step=1, dead=torch.ones(FEATURES))
    with pytest.raises(InvalidInput, match="k is 201"):
        train_step_topk(
            x, weights, moments, StepSettings(k=201, learning_rate=1.0, variance=1.0), step=1
        )
    other = AdamMoments.zeros_like(start(features=10))
    with pytest.raises(ShapeError, match="moments is"):
        train_step_topk(x, weights, other, settings(), step=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"variance": 0.0}, "variance is 0.0"),
        ({"variance": float("nan")}, "variance is nan"),
        ({"beta1": 1.0}, "beta1 is 1.0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"aux_k": -1}, "aux_k is -1"),
    ],
)
def test_settings_refuse_impossible_values(changes: dict[str, float], message: str) -> None:
    given = {"k": 1, "learning_rate": 1.0, "variance": 1.0, **changes}
    with pytest.raises(InvalidInput, match=message):
        StepSettings(**given)  # pyright: ignore[reportArgumentType] (wrong on purpose)


def test_weights_refuse_tensors_that_do_not_fit_together() -> None:
    given = start().named()
    with pytest.raises(ShapeError, match=r"decoder is \(199, 48\); \[200, \*\] is wanted"):
        Weights(**{**given, "decoder": torch.zeros(199, 48)})
    with pytest.raises(ShapeError, match=r"decoder_bias is \(48,\); \[47\] is wanted"):
        Weights(**{**given, "decoder": torch.zeros(200, 47)})
    with pytest.raises(
        ShapeError, match=r"encoder_bias is torch\.float64; torch\.float32 is wanted"
    ):
        Weights(**{**given, "encoder_bias": torch.zeros(200, dtype=torch.float64)})
    with pytest.raises(ShapeError, match="encoder has strides"):
        Weights(**{**given, "encoder": torch.zeros(48, 200).T})
