import math
from collections.abc import Mapping

import pytest
import torch
from tests.dictionaries.kinds.dense import (
    FEATURES,
    VARIANCE,
    batch_of,
    centred,
    check_step,
    parameters_of,
    rows_of,
    started,
)
from torch import Tensor

from isogloss.dictionaries import Kind, StepBatch
from isogloss.dictionaries.kinds.jumprelu import JumpReLU
from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.testing import KindContract, WiredContract
from isogloss.dictionaries.testing.planted import WIRINGS, PlantedRun, found_share, planted
from isogloss.errors import InvalidInput

BANDWIDTH, WEIGHT, TARGET, SCALE, REVIVE = 0.7, 0.3, 4.0, 1.5, 0.2


class TestJumpReLUWired(WiredContract):
    learning_rate = 2e-2

    def make(self, features: int) -> Kind:
        return JumpReLU(
            features=features,
            target_l0=1.5,
            bandwidth=2.0,
            threshold=0.5,
        )

    def name(self) -> str:
        return "jumprelu"

    def dense_gradients(
        self, given: Mapping[str, Tensor], batch: StepBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        held = {name: tensor.detach() for name, tensor in given.items()}
        return by_hand(
            batch, held, "target_l0", weight=0.3, target_l0=1.5, bandwidth=2.0, revive=3e-6
        )


class TestJumpReLU(KindContract):
    def make(self) -> Kind:
        return JumpReLU(features=24, target_l0=3.0)


class TestTanh(KindContract):
    def make(self) -> Kind:
        return JumpReLU(features=24, sparsity="tanh", clip_norm=1.0)


def by_hand(
    batch: StepBatch,
    given: Mapping[str, Tensor],
    sparsity: str,
    *,
    weight: float = WEIGHT,
    target_l0: float = TARGET,
    bandwidth: float = BANDWIDTH,
    revive: float = REVIVE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients as the docstring states them, written out, dense, float64."""
    count, dead = len(batch.rows), batch.dead
    encoder, decoder, theta = given["encoder"], given["decoder"], given["log_threshold"].exp()
    read = centred(given, batch.rows)
    pre = read @ encoder.T + given["encoder_bias"]
    step = (pre > theta).double()
    z = pre * step
    residual = z @ decoder + given["decoder_bias"] - batch.target.double()
    to_out = 2 * residual / (count * batch.variance)
    to_z, to_step = to_out @ decoder.T, torch.zeros_like(pre)
    l0 = step.sum() / count
    if sparsity == "l0":
        penalty, to_step = weight * l0, to_step + weight / count
    elif sparsity == "target_l0":
        penalty = weight * (l0 / target_l0 - 1) ** 2
        to_step = to_step + 2 * weight * (l0 / target_l0 - 1) / target_l0 / count
    else:
        penalty = weight * torch.tanh(SCALE * z).sum() / count
        to_z = to_z + weight * SCALE / torch.cosh(SCALE * z) ** 2 / count
    window = (((pre - theta).abs() < bandwidth / 2) & (pre > 0)).double()
    to_theta = (-(theta / bandwidth) * window * to_z - window / bandwidth * to_step).sum(0)
    to_pre = to_z * step
    loss = residual.square().sum() / count / batch.variance + penalty
    if dead is not None:
        missing = (theta - pre).relu() * dead
        loss = loss + revive * missing.sum() / count
        below = (missing > 0).double() * revive / count
        to_pre, to_theta = to_pre - below, to_theta + below.sum(0)
    return loss, {
        "encoder": to_pre.T @ read,
        "encoder_bias": to_pre.sum(0),
        "decoder": z.T @ to_out,
        "decoder_bias": to_out.sum(0) - (0 if "input_bias" in given else (to_pre @ encoder).sum(0)),
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
    value, gradients = by_hand(batch_of(rows, dead=mask), given, sparsity)
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
    _, by_formula = by_hand(batch_of(rows.float(), dead=dead), held, "tanh")
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


@pytest.mark.parametrize("sparsity", ["tanh", "l0"])
def test_planted_features_are_recovered_under_the_other_penalties(sparsity: str):
    kind = make_kind("jumprelu", {"features": 40, "sparsity": sparsity})
    run = PlantedRun(kind=kind, wired=WIRINGS["sae"], steps=400)
    run.take(1, 400)
    rows, directions = planted(1024, 9, 1)
    made = run.finish()
    assert found_share(made.decoder, directions) >= 0.9
    assert 1.2 < made.encode(rows).to_ragged().values.numel() / 1024 < 2.2  # 1.5 are planted
