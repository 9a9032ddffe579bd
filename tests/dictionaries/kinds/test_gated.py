import math
from dataclasses import replace

import pytest
import torch
from tests.dictionaries.kinds.dense import (
    FEATURES,
    VARIANCE,
    Parameters,
    batch_of,
    centred,
    check_autograd,
    parameters_of,
    rows_of,
    started,
)
from torch import Tensor

from isogloss.dictionaries import Kind, StepBatch
from isogloss.dictionaries.kinds.gated import Gated
from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.testing import KindContract, WiredContract
from isogloss.errors import InvalidInput

L1, REVIVE = 0.2, 0.03


class TestGatedWired(WiredContract):
    def make(self, features: int) -> Kind:
        return Gated(features=features, l1=0.75, sparsity_warmup=0.0)

    def name(self) -> str:
        return "gated"

    def dense_loss(self, given: Parameters, batch: StepBatch) -> Tensor:
        shared = centred(given, batch.rows) @ given["encoder"].T
        gate = shared + given["encoder_bias"]
        magnitude = given["log_gain"].exp() * shared + given["magnitude_bias"]
        decoder, bias = given["decoder"], given["decoder_bias"]
        error = ((gate > 0) * magnitude.relu()) @ decoder + bias - batch.target.double()
        gate_error = gate.relu() @ decoder.detach() + bias.detach() - batch.target.double()
        squares = error.square().sum(1).mean() + gate_error.square().sum(1).mean()
        penalty = 0.75 * gate.relu().sum(1).mean() / batch.variance**0.5
        if batch.dead is not None:
            penalty = penalty + 1e-4 * (-gate[:, batch.dead]).relu().sum(1).mean()
        return squares / batch.variance + penalty


class TestGated(KindContract):
    def make(self) -> Kind:
        return Gated(features=24)


class TestResampling(KindContract):
    def make(self) -> Kind:
        return Gated(features=24, l1=0.75, resample_every=2, clip_norm=1.0)


def paths(rows: Tensor, given: Parameters) -> tuple[Tensor, Tensor]:
    shared = (rows - given["decoder_bias"]) @ given["encoder"].T
    gate = shared + given["encoder_bias"]
    return gate, given["log_gain"].exp() * shared + given["magnitude_bias"]


@pytest.mark.parametrize("dead", [0, 7])
def test_a_step_takes_the_gradient_of_the_documented_loss(dead: int):
    kind, rows = Gated(features=FEATURES, l1=L1, sparsity_warmup=0.0, pre_act=REVIVE), rows_of()
    mask = torch.arange(FEATURES) < dead if dead else None
    exact, start = rows.double(), parameters_of(started(kind))

    def loss_with(given: Parameters, frozen: Parameters) -> Tensor:
        gate, magnitude = paths(exact, given)
        z = (gate > 0) * magnitude.relu()
        error = z @ given["decoder"] + given["decoder_bias"] - exact
        gate_error = gate.relu() @ frozen["decoder"] + frozen["decoder_bias"] - exact
        squares = error.square().sum(1).mean() + gate_error.square().sum(1).mean()
        missing = REVIVE * (-gate[:, :dead]).relu().sum(1).mean()
        return squares / VARIANCE + L1 * gate.relu().sum(1).mean() / VARIANCE**0.5 + missing

    def loss(given: Parameters) -> Tensor:
        return loss_with(given, {name: tensor.detach() for name, tensor in given.items()})

    held = {name: tensor.detach() for name, tensor in start.items()}
    result = check_autograd(
        kind,
        loss,
        batch=batch_of(rows, dead=mask),
        unit_norm=True,
        finite=lambda given: loss_with(given, held),
    )
    assert set(result.parts) == {"sparsity", "gate_error", "pre_act"}
    assert (result.parts["pre_act"] > 0) == bool(dead)


def test_gates_that_are_closed_on_all_rows_open_again():
    dead, found = torch.arange(FEATURES) < 7, list[int]()
    for pre_act in (0.0, 0.1):
        kind = Gated(features=FEATURES, l1=0.01, sparsity_warmup=0.0, pre_act=pre_act)
        tensors, rows, fired = started(kind), rows_of(), torch.zeros(FEATURES)
        tensors["weights.encoder_bias"][dead] = -20.0
        for step in range(60):
            batch = replace(batch_of(rows, dead=dead), step=step + 1, learning_rate=0.5)
            fired += kind.step(tensors, batch).fired
        found.append(int((fired[:7] > 0).sum()))
    assert found == [0, 7]


def test_both_paths_decide_and_the_magnitude_is_the_value():
    kind = Gated(features=FEATURES, l1=L1)
    tensors = started(kind)
    made = kind.export(tensors, Normalisation(scale=1.0, variance=1.0, mean=torch.zeros(6)))
    rows = rows_of(60)
    gate, magnitude = paths(rows, made)
    wanted = (gate > 0) * magnitude.relu()
    codes = kind.encode(made, rows)
    assert codes.offsets is not None
    owners = torch.repeat_interleave(torch.arange(60), codes.offsets.diff())
    dense = torch.zeros(60, FEATURES)
    dense[owners, codes.indices.long()] = codes.values
    torch.testing.assert_close(dense, wanted, rtol=1e-5, atol=1e-6)
    assert bool(((gate > 0) & (magnitude < 0)).any())
    assert bool(((gate < 0) & (magnitude > 0)).any())


def test_the_scale_is_folded_into_biases_and_not_into_gains():
    kind = Gated(features=FEATURES, l1=L1)
    tensors = started(kind)
    tensors["weights.log_gain"].fill_(math.log(2))
    made = kind.export(tensors, Normalisation(scale=0.5, variance=1.0, mean=torch.zeros(6)))
    assert torch.equal(made["log_gain"], tensors["weights.log_gain"])
    for name in ("encoder_bias", "magnitude_bias", "decoder_bias"):
        assert torch.equal(made[name], tensors[f"weights.{name}"] * 2), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l1": -1}, "l1 is -1"),
        ({"resample_every": 1.5}, "resample_every is 1.5"),
        ({"l1": 0.2, "target_l0": 3}, "leave one of the two out"),
        ({"target_l0": 25}, r"target_l0 is 25.*features is 24; lower"),
        ({"clip_norm": -1}, "clip_norm is -1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match=message):
        make_kind("gated", {"features": 24, **settings})
