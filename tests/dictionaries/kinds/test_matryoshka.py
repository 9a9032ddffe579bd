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
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.kinds.matryoshka import MatryoshkaBatchTopK
from isogloss.dictionaries.testing import KindContract, WiredContract
from isogloss.dictionaries.testing.planted import WIRINGS, PlantedRun, planted
from isogloss.errors import InvalidInput

K, AUX_K, SIZES = 3, 5, (4, 11, FEATURES)


class TestMatryoshkaWired(WiredContract):
    unit_norm = False

    def make(self, features: int) -> Kind:
        return MatryoshkaBatchTopK(features=features, k=2, aux_k=5, prefixes=(0.75, 1.0))

    def name(self) -> str:
        return "matryoshka_batch_topk"

    def dense_loss(self, given: Parameters, batch: StepBatch) -> Tensor:
        sizes = (18, FEATURES)
        return topk_family_loss(
            given, batch, lambda pre: best_of_batch(pre, 2), aux_k=5, sizes=sizes
        )


class TestMatryoshka(KindContract):
    def make(self) -> Kind:
        return MatryoshkaBatchTopK(features=24, k=3)


def kept_of_batch(rows: Tensor, given: Parameters) -> tuple[Tensor, Tensor]:
    pre = (rows - given["decoder_bias"]) @ given["encoder"].T + given["encoder_bias"]
    order = torch.sort(pre.detach().flatten(), descending=True, stable=True).indices
    kept = torch.zeros(pre.numel(), dtype=pre.dtype)
    kept[order[: K * len(pre)]] = 1.0
    return pre, pre.relu() * kept.view_as(pre)


def residual_of(rows: Tensor, given: Parameters, codes: Tensor, size: int) -> Tensor:
    return codes[:, :size] @ given["decoder"][:size] + given["decoder_bias"] - rows


@pytest.mark.parametrize("dead", [0, 7])
@pytest.mark.parametrize("prefixes", [tuple(map(float, SIZES)), (4 / 24, 11 / 24, 1.0)])
def test_a_step_takes_the_gradient_of_the_documented_loss(dead: int, prefixes: tuple[float, ...]):
    kind = MatryoshkaBatchTopK(features=FEATURES, k=K, aux_k=AUX_K, prefixes=prefixes)
    assert kind.sizes() == SIZES
    rows = rows_of()
    exact, mask = rows.double(), torch.arange(FEATURES) % 3 == 0
    start = parameters_of(started(kind))
    target = residual_of(exact, start, kept_of_batch(exact, start)[1], FEATURES).detach()

    def loss(given: Parameters) -> Tensor:
        pre, codes = kept_of_batch(exact, given)
        errors = [residual_of(exact, given, codes, size).square().sum(1).mean() for size in SIZES]
        total = torch.stack(errors).mean() / VARIANCE
        if not dead:
            return total
        among = pre.masked_fill(~mask, -torch.inf)
        best = among.topk(AUX_K, dim=1).indices
        few = among.relu() * torch.zeros_like(pre).scatter(1, best, 1.0)
        aux = (few @ given["decoder"] + target).square().sum()
        return total + aux / (target - target.mean(0)).square().sum() / 32

    batch = batch_of(rows, dead=mask if dead else None)
    result = check_autograd(kind, loss, batch=batch, unit_norm=False)
    assert result.squared_error == pytest.approx(float(target.square().sum(1).mean()), rel=1e-5), (
        "the squared error is that of all features"
    )


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        ((), "wanted the last to be all"),
        ((0.5,), r"\[0\.5\]; wanted the last to be all"),
        ((0.5, 0.25, 1.0), r"are \[12, 6, 24\]; wanted numbers that rise"),
        ((0.01, 1.0), r"are \[0, 24\]; wanted numbers that rise"),
        ((4, 12), "24 for numbers"),
        ((4, 4, 24), "wanted numbers that rise"),
        ((4.5, 24), "whole numbers of features"),
        ((4, 48), "24 for numbers"),
        ((-1.0, 1.0), "prefixes is"),
    ],
)
def test_prefixes_that_cannot_be_are_refused(prefixes: tuple[float, ...], message: str):
    with pytest.raises(InvalidInput, match=message):
        make_kind("matryoshka_batch_topk", {"features": 24, "k": 2, "prefixes": list(prefixes)})


def test_the_first_features_alone_reconstruct_more_than_those_of_batch_topk():
    found: list[float] = []
    for name in ("batch_topk", "matryoshka_batch_topk"):
        kind = make_kind(name, {"features": 64, "k": 2})
        run = PlantedRun(kind=kind, wired=WIRINGS["sae"], steps=120)
        run.take(1, 120)
        made, (rows, _) = run.finish(), planted(1024, 5, 1)
        codes = made.encode(rows)
        few = codes.with_values(torch.where(codes.indices < 16, codes.values, 0.0))
        error = (made.decode(few) - rows).square().sum() / (rows - rows.mean(0)).square().sum()
        found.append(float(error))
    assert found[1] < 0.8 * found[0], found
