import pytest
import torch
from tests.dictionaries.kinds.dense import (
    FEATURES,
    VARIANCE,
    Parameters,
    batch_of,
    best_of_batch,
    check_autograd,
    parameters_of,
    rows_of,
    started,
    topk_family_loss,
)
from torch import Tensor

from isogloss.dictionaries import Kind, StepBatch
from isogloss.dictionaries.kinds.batch_topk import BatchTopK
from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.testing import KindContract, WiredContract
from isogloss.errors import InvalidInput

K, AUX_K = 3, 5


class TestBatchTopKWired(WiredContract):
    unit_norm = False

    def make(self, features: int) -> Kind:
        return BatchTopK(features=features, k=2, aux_k=5)

    def name(self) -> str:
        return "batch_topk"

    def dense_loss(self, given: Parameters, batch: StepBatch) -> Tensor:
        return topk_family_loss(given, batch, lambda pre: best_of_batch(pre, 2), aux_k=5)


class TestBatchTopK(KindContract):
    def make(self) -> Kind:
        return BatchTopK(features=24, k=3)


def pre_activations(rows: Tensor, given: Parameters) -> Tensor:
    return (rows - given["decoder_bias"]) @ given["encoder"].T + given["encoder_bias"]


def kept_of_batch(pre: Tensor) -> Tensor:
    order = torch.sort(pre.detach().flatten(), descending=True, stable=True).indices
    kept = torch.zeros(pre.numel(), dtype=pre.dtype)
    kept[order[: K * len(pre)]] = 1.0
    return pre.relu() * kept.view_as(pre)


def residual_of(rows: Tensor, given: Parameters) -> Tensor:
    codes = kept_of_batch(pre_activations(rows, given))
    return codes @ given["decoder"] + given["decoder_bias"] - rows


@pytest.mark.parametrize("dead", [0, 3, 12])
def test_a_step_takes_the_gradient_of_the_documented_loss(dead: int):
    kind = BatchTopK(features=FEATURES, k=K, aux_k=AUX_K)
    rows = rows_of()
    mask = torch.arange(FEATURES) < dead if dead else None
    target = residual_of(rows.double(), parameters_of(started(kind))).detach()

    def loss(given: Parameters) -> Tensor:
        error = residual_of(rows.double(), given).square().sum(1).mean() / VARIANCE
        if mask is None:
            return error
        pre = pre_activations(rows.double(), given).masked_fill(~mask, -torch.inf)
        best = pre.topk(min(AUX_K, dead), dim=1).indices
        few = pre.relu() * torch.zeros_like(pre).scatter(1, best, 1.0)
        aux = (few @ given["decoder"] + target).square().sum()
        aux = aux / (target - target.mean(0)).square().sum()
        return error + min(dead / AUX_K, 1.0) * aux / 32

    check_autograd(kind, loss, batch=batch_of(rows, dead=mask), unit_norm=False)


def test_the_threshold_is_a_running_mean_of_the_smallest_value_kept():
    kind = BatchTopK(features=FEATURES, k=K, threshold_decay=0.75)
    tensors, wanted = started(kind), None
    for seed in range(4):
        rows = rows_of(20, seed)
        kept = kept_of_batch(pre_activations(rows.double(), parameters_of(tensors))).detach()
        smallest = float(kept[kept > 0].min())
        wanted = smallest if wanted is None else 0.75 * wanted + 0.25 * smallest
        kind.step(tensors, batch_of(rows, step=seed + 1, of=4))
        assert tensors["threshold"].dtype == torch.float64
        assert float(tensors["threshold"]) == pytest.approx(wanted, rel=1e-5)


def test_codes_are_what_lies_above_the_threshold_and_rows_differ_in_their_number():
    kind = BatchTopK(features=FEATURES, k=K)
    tensors = started(kind)
    kind.step(tensors, batch_of(rows_of(200)))
    made = kind.export(tensors, Normalisation(scale=1.0, variance=1.0, mean=torch.zeros(6)))
    rows = rows_of(50, 7)
    codes = kind.encode(made, rows)
    pre = pre_activations(rows, made)
    assert codes.offsets is not None
    assert torch.equal(codes.offsets.diff(), (pre > made["threshold"]).sum(1))
    assert len(set(codes.offsets.diff().tolist())) > 1
    alone = kind.encode(made, rows[7:8])
    own = slice(int(codes.offsets[7]), int(codes.offsets[8]))
    torch.testing.assert_close(alone.values, codes.values[own])


def test_a_batch_without_a_positive_entry_leaves_the_threshold():
    kind = BatchTopK(features=FEATURES, k=K)
    tensors = started(kind)
    tensors["weights.encoder_bias"].fill_(-1e3)
    kind.step(tensors, batch_of(rows_of()))
    assert float(tensors["threshold"]) == -1.0
    tensors["threshold"].fill_(0.5)
    kind.step(tensors, batch_of(rows_of(), step=2, of=2))
    assert float(tensors["threshold"]) == 0.5


def test_a_threshold_that_was_never_set_is_refused_at_inference():
    kind = BatchTopK(features=FEATURES, k=K)
    made = kind.export(started(kind), Normalisation(scale=0.5, variance=1.0, mean=torch.zeros(6)))
    assert float(made["threshold"]) == -1.0
    with pytest.raises(InvalidInput, match=r"never set; train"):
        kind.encode(made, rows_of())
