import pytest
import torch
from tests.dictionaries.kinds.dense import (
    FEATURES,
    VARIANCE,
    Parameters,
    batch_of,
    centred,
    check_autograd,
    rows_of,
    started,
)
from torch import Tensor

from isogloss.dictionaries import Kind, StepBatch
from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.kinds.relu_l1 import ReluL1
from isogloss.dictionaries.testing import KindContract, WiredContract
from isogloss.errors import InvalidInput

L1 = 0.2


class TestReluL1Wired(WiredContract):
    unit_norm = False

    def make(self, features: int) -> Kind:
        return ReluL1(features=features, l1=0.25, sparsity_warmup=0.0)

    def name(self) -> str:
        return "relu_l1"

    def dense_loss(self, given: Parameters, batch: StepBatch) -> Tensor:
        pre = centred(given, batch.rows) @ given["encoder"].T + given["encoder_bias"]
        residual = pre.relu() @ given["decoder"] + given["decoder_bias"] - batch.target.double()
        parts = batch.parts or (range(batch.target.shape[1]),)
        norms = [given["decoder"][:, part.start : part.stop].norm(dim=1) for part in parts]
        penalty = (pre.relu() * torch.stack(norms).sum(0)).sum(1).mean()
        error = residual.square().sum(1).mean() / batch.variance
        return error + 0.25 * penalty / batch.variance**0.5


class TestReluL1(KindContract):
    def make(self) -> Kind:
        return ReluL1(features=24)


class TestResampling(KindContract):
    def make(self) -> Kind:
        return ReluL1(features=24, l1=0.25, resample_every=2, clip_norm=1.0)


def test_a_step_takes_the_gradient_of_the_documented_loss():
    kind, rows = ReluL1(features=FEATURES, l1=L1, sparsity_warmup=0.0), rows_of()

    def loss(given: Parameters) -> Tensor:
        exact = rows.double()
        pre = (exact - given["decoder_bias"]) @ given["encoder"].T + given["encoder_bias"]
        residual = pre.relu() @ given["decoder"] + given["decoder_bias"] - exact
        penalty = (pre.relu() * given["decoder"].norm(dim=1)).sum(1).mean()
        return residual.square().sum(1).mean() / VARIANCE + L1 * penalty / VARIANCE**0.5

    result = check_autograd(kind, loss, batch=batch_of(rows), unit_norm=False)
    assert set(result.parts) == {"sparsity"}


def test_the_penalty_rises_over_its_warm_up():
    kind = ReluL1(features=FEATURES, l1=L1, sparsity_warmup=0.5)
    found = [
        kind.step(started(kind), batch_of(rows_of(), step=step, of=8)).parts["sparsity"]
        for step in (1, 2, 4, 8)
    ]
    assert [part / found[-1] for part in found] == pytest.approx([0.25, 0.5, 1.0, 1.0])


def test_decoder_norms_are_free_while_training_and_folded_into_the_codes_on_export():
    kind = ReluL1(features=FEATURES)
    tensors = started(kind)
    tensors["weights.decoder"].mul_(torch.linspace(0.5, 2, FEATURES)[:, None])
    tensors["weights.decoder"][3] = 0.0
    rows = rows_of(30)
    made = kind.export(tensors, Normalisation(scale=1.0, variance=1.0, mean=torch.zeros(6)))
    norms = made["decoder"].norm(dim=1)
    assert torch.allclose(norms[torch.arange(FEATURES) != 3], torch.ones(FEATURES - 1))
    pre = (rows - tensors["weights.decoder_bias"]) @ tensors["weights.encoder"].T
    wanted = (pre + tensors["weights.encoder_bias"]).relu() @ tensors["weights.decoder"]
    codes = kind.encode(made, rows)
    assert codes.offsets is not None
    owners = torch.repeat_interleave(torch.arange(30), codes.offsets.diff())
    dense = torch.zeros(30, FEATURES)
    dense[owners, codes.indices.long()] = codes.values
    torch.testing.assert_close(dense @ made["decoder"], wanted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l1": -1}, "l1 is -1"),
        ({"resample_every": -1}, "resample_every is -1"),
        ({"sparsity_warmup": 1.5}, "sparsity_warmup is 1.5"),
        ({"l1": 0.2, "target_l0": 3}, "leave one of the two out"),
        ({"target_l0": 25}, r"target_l0 is 25.*features is 24; lower"),
        ({"k": 3}, r"unknown settings \['k'\]"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match=message):
        make_kind("relu_l1", {"features": 24, **settings})
