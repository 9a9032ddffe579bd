import math
from collections.abc import Mapping

import pytest
import torch
from tests.dictionaries.kinds.dense import (
    FEATURES,
    RECOVERED,
    VARIANCE,
    batch_of,
    check_step,
    parameters_of,
    recovered,
    rows_of,
    started,
)
from torch import Tensor

from isogloss.dictionaries import Kind
from isogloss.dictionaries.kinds.jumprelu import JumpReLU
from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.testing import KindContract
from isogloss.errors import InvalidInput

BANDWIDTH, WEIGHT, TARGET, SCALE, REVIVE = 0.7, 0.3, 4.0, 1.5, 0.2


class TestJumpReLU(KindContract):
    def make(self) -> Kind:
        return JumpReLU(features=24, target_l0=3.0)


class TestTanh(KindContract):
    def make(self) -> Kind:
        return JumpReLU(features=24, sparsity="tanh", clip_norm=1.0)


def by_hand(
    rows: Tensor, given: Mapping[str, Tensor], sparsity: str, dead: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients as the docstring states them, written out, dense, float64."""
    count = len(rows)
    encoder, decoder, theta = given["encoder"], given["decoder"], given["log_threshold"].exp()
    centred = rows - given["decoder_bias"]
    pre = centred @ encoder.T + given["encoder_bias"]
    step = (pre > theta).double()
    z = pre * step
    residual = z @ decoder + given["decoder_bias"] - rows
    to_out = 2 * residual / (count * VARIANCE)
    to_z, to_step = to_out @ decoder.T, torch.zeros_like(pre)
    l0 = step.sum() / count
    if sparsity == "l0":
        penalty, to_step = WEIGHT * l0, to_step + WEIGHT / count
    elif sparsity == "target_l0":
        penalty = WEIGHT * (l0 / TARGET - 1) ** 2
        to_step = to_step + 2 * WEIGHT * (l0 / TARGET - 1) / TARGET / count
    else:
        penalty = WEIGHT * torch.tanh(SCALE * z).sum() / count
        to_z = to_z + WEIGHT * SCALE / torch.cosh(SCALE * z) ** 2 / count
    window = (((pre - theta).abs() < BANDWIDTH / 2) & (pre > 0)).double()
    to_theta = (-(theta / BANDWIDTH) * window * to_z - window / BANDWIDTH * to_step).sum(0)
    to_pre = to_z * step
    loss = residual.square().sum() / count / VARIANCE + penalty
    if dead is not None:
        missing = (theta - pre).relu() * dead
        loss = loss + REVIVE * missing.sum() / count
        below = (missing > 0).double() * REVIVE / count
        to_pre, to_theta = to_pre - below, to_theta + below.sum(0)
    return loss, {
        "encoder": to_pre.T @ centred,
        "encoder_bias": to_pre.sum(0),
        "decoder": z.T @ to_out,
        "decoder_bias": to_out.sum(0) - (to_pre @ encoder).sum(0),
        "log_threshold": theta * to_theta,
    }


@pytest.mark.parametrize("sparsity", ["l0", "target_l0", "tanh"])
@pytest.mark.parametrize("dead", [0, 5])
def test_a_step_takes_the_stated_pseudo_derivatives(sparsity: str, dead: int):
    kind = make_kind(
        "jumprelu",
        {
            "features": FEATURES,
            "sparsity": sparsity,
            "coefficient": WEIGHT,
            "target_l0": TARGET,
            "tanh_scale": SCALE,
            "bandwidth": BANDWIDTH,
            "threshold": 0.4,
            "pre_act": REVIVE,
            "sparsity_warmup": 0,
        },
    )
    tensors, rows = started(kind), rows_of(40)
    mask = torch.arange(FEATURES) < dead if dead else None
    given = {name: tensor.detach() for name, tensor in parameters_of(tensors).items()}
    value, gradients = by_hand(rows.double(), given, sparsity, mask)
    assert float(gradients["log_threshold"].abs().min()) > 0
    result = check_step(kind, tensors, batch_of(rows, dead=mask), value, gradients, unit_norm=True)
    assert set(result.parts) == {"sparsity", "pre_act"}
    assert (result.parts["pre_act"] > 0) == bool(dead)


def test_the_gradients_by_hand_are_the_derivatives_where_the_loss_has_some():
    # away from the thresholds nothing jumps: then all but the pseudo-derivative is a derivative
    kind = JumpReLU(features=FEATURES, target_l0=4.0, threshold=0.4)
    rows = rows_of(12).double()
    parameters = parameters_of(started(kind))

    def loss(*values: Tensor) -> Tensor:
        encoder, bias, decoder, centre = values
        pre = (rows - centre) @ encoder.T + bias
        z = pre * (pre > parameters["log_threshold"].exp())
        penalty = WEIGHT * torch.tanh(SCALE * z).sum() / len(rows)
        error = (z @ decoder + centre - rows).square().sum() / len(rows) / VARIANCE
        missing = (parameters["log_threshold"].exp().detach() - pre)[:, :5].relu()
        return error + penalty + REVIVE * missing.sum() / len(rows)

    names = ("encoder", "encoder_bias", "decoder", "decoder_bias")
    given = [parameters[name].detach().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(loss, given, eps=1e-6, atol=1e-6)
    dead = torch.arange(FEATURES) < 5
    held = {name: tensor.detach() for name, tensor in parameters.items()}
    _, by_formula = by_hand(rows, held, "tanh", dead)
    for name, gradient in zip(names, torch.autograd.grad(loss(*given), given), strict=True):
        torch.testing.assert_close(by_formula[name], gradient, msg=f"{name} differs")


def test_the_penalty_rises_over_its_warm_up():
    kind = JumpReLU(features=FEATURES, sparsity="l0", coefficient=1.0, sparsity_warmup=0.5)
    found = [
        kind.step(started(kind), batch_of(rows_of(), step=step, of=8)).parts["sparsity"]
        for step in (1, 2, 4, 8)
    ]
    assert [part / found[-1] for part in found] == pytest.approx([0.25, 0.5, 1.0, 1.0])


def test_thresholds_are_folded_and_decide_what_fires():
    kind = JumpReLU(features=FEATURES, target_l0=4.0, threshold=0.3)
    tensors = started(kind)
    tensors["weights.log_threshold"][3:5] = torch.tensor([math.log(0.3), math.log(0.9)])
    made = kind.export(tensors, Normalisation(scale=0.5, variance=1.0, mean=torch.zeros(6)))
    torch.testing.assert_close(made["threshold"][3:5], torch.tensor([0.6, 1.8]))
    rows = rows_of(50)
    codes = kind.encode(made, rows)
    pre = (rows - made["decoder_bias"]) @ made["encoder"].T + made["encoder_bias"]
    assert codes.offsets is not None
    assert torch.equal(codes.offsets.diff(), (pre > made["threshold"]).sum(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_l0": 25}, r"target_l0 is 25.*features is 24; lower"),
        ({"target_l0": 0}, "target_l0 is 0"),
        ({"sparsity": "l1"}, "sparsity is 'l1'"),
        ({"bandwidth": 0}, "bandwidth is 0"),
        ({"threshold": 0}, "threshold is 0"),
        ({"coefficient": -1}, "coefficient is -1"),
        ({"sparsity_warmup": 2}, "sparsity_warmup is 2"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match=message):
        make_kind("jumprelu", {"features": 24, **settings})


@pytest.mark.parametrize("sparsity", ["target_l0", "tanh", "l0"])
def test_planted_features_are_recovered(sparsity: str):
    share, l0, _ = recovered(
        make_kind("jumprelu", {"features": 64, "target_l0": 2.0, "sparsity": sparsity}), steps=600
    )
    assert share >= RECOVERED
    assert 1.5 < l0 < 2.5  # 2 directions a row are planted
