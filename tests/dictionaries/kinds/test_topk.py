from collections.abc import Callable

import pytest
import torch
from tests.dictionaries.kinds.dense import Parameters, best_of_rows, topk_family_loss
from torch import Tensor

from isogloss.dictionaries import Kind, SparseDictionary, StepBatch, initial_decoder
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.kinds.topk import TopK
from isogloss.dictionaries.testing import KindContract, WiredContract
from isogloss.errors import InvalidInput
from isogloss.kernels import Weights, Workspace

NAMES = ("encoder", "encoder_bias", "decoder", "decoder_bias")
K, AUX_K, VARIANCE = 3, 5, 1.7


class TestTopKWired(WiredContract):
    unit_norm = False

    def make(self, features: int) -> Kind:
        return TopK(features=features, k=2, aux_k=5)

    def name(self) -> str:
        return "topk"

    def dense_loss(self, given: Parameters, batch: StepBatch) -> Tensor:
        return topk_family_loss(given, batch, lambda pre: best_of_rows(pre, 2), aux_k=5)


class TestTopK(KindContract):
    def make(self) -> Kind:
        return TopK(features=24, k=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": 0}, "features is 0"),
        ({"features": 64.5}, r"features is 64\.5"),
        ({"features": "many"}, "features is 'many'"),
        ({"features": True}, "features is True"),
        ({"k": 0}, "k is 0"),
        ({"k": 65}, "k is 65 but features is 64"),
        ({"k": None}, "k is None"),
        ({"aux_k": -1}, "aux_k is -1"),
        ({"k_start": 16}, "k_start is 16; wanted between k 32 and features 64"),
        ({"k_start": 65}, "k_start is 65"),
        ({"k_anneal": 1.5}, r"k_anneal is 1\.5"),
        ({"clip_norm": -1}, "clip_norm is -1"),
        ({"init_norm": 0}, "init_norm is 0"),
        ({"lr": 1e-3}, r"unknown settings \['lr'\]; kind 'topk' has.*aux_k"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, object], message: str):
    with pytest.raises(InvalidInput, match=message):
        make_kind("topk", {"features": 64} | settings)


def test_the_number_of_features_is_required():
    with pytest.raises(InvalidInput, match="features is missing"):
        make_kind("topk", {"k": 4})


def _weights() -> Weights:
    generator = torch.Generator().manual_seed(2)
    return Weights(
        encoder=torch.randn(24, 6, generator=generator) / 6**0.5,
        encoder_bias=0.1 * torch.randn(24, generator=generator),
        decoder=initial_decoder(24, 6, 3),
        decoder_bias=0.1 * torch.randn(6, generator=generator),
    )


def _largest(pre: Tensor, count: int) -> Tensor:
    kept = torch.zeros_like(pre).scatter(1, pre.topk(count, dim=1).indices, 1.0)
    return pre.relu() * kept


def _documented_loss(rows: Tensor, dead: Tensor | None) -> Callable[..., Tensor]:
    """The equation in TopK's docstring, AuxK's target held constant; in the dtype of rows."""
    start = [_weights().named()[name].to(rows.dtype) for name in NAMES]

    def residual(encoder: Tensor, bias: Tensor, decoder: Tensor, centre: Tensor) -> Tensor:
        pre = (rows - centre) @ encoder.T + bias
        return _largest(pre, K) @ decoder + centre - rows

    target = residual(*start)

    def loss(encoder: Tensor, bias: Tensor, decoder: Tensor, centre: Tensor) -> Tensor:
        error = residual(encoder, bias, decoder, centre).square().sum(1).mean() / VARIANCE
        if dead is None:
            return error
        pre = ((rows - centre) @ encoder.T + bias).masked_fill(~dead, -torch.inf)
        missing = _largest(pre, min(AUX_K, int(dead.sum()))) @ decoder + target
        aux = missing.square().sum() / (target - target.mean(0)).square().sum()
        return error + min(int(dead.sum()) / AUX_K, 1.0) * aux / 32

    return loss


@pytest.mark.parametrize("dead", [0, 3, 12])
def test_a_step_takes_the_gradient_of_the_documented_loss(dead: int):
    rows = torch.randn(9, 6, generator=torch.Generator().manual_seed(9))
    mask = torch.arange(24) < dead if dead else None
    loss = _documented_loss(rows.double(), mask)
    parameters = [_weights().named()[name].double().requires_grad_() for name in NAMES]
    assert torch.autograd.gradcheck(loss, parameters, eps=1e-6, atol=1e-6)
    value = loss(*parameters)
    gradients = dict(zip(NAMES, torch.autograd.grad(value, parameters), strict=True))
    tensors = {f"weights.{name}": tensor for name, tensor in _weights().named().items()}
    for group in ("first", "second"):
        tensors |= {
            f"{group}.{name}": torch.zeros_like(tensor)
            for name, tensor in _weights().named().items()
        }
    batch = StepBatch(
        rows=rows,
        target=rows,
        step=1,
        total_steps=1,
        learning_rate=0.0,
        variance=VARIANCE,
        dead=mask,
        workspace=Workspace(),
    )
    result = TopK(features=24, k=K, aux_k=AUX_K, clip_norm=0.0).step(tensors, batch)
    assert result.loss == pytest.approx(value.item(), rel=1e-5)
    for name, expected in gradients.items():
        found = tensors[f"first.{name}"].double() / (1 - 0.9)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=f"{name} differs")
    if mask is not None:
        assert float(gradients["encoder"][:dead].abs().max()) > 0, "AuxK must reach the encoder"


def test_codes_are_the_topk_of_the_formula(autoencoder: SparseDictionary):
    rows = torch.randn(33, autoencoder.width, generator=torch.Generator().manual_seed(1))
    w = autoencoder.tensors
    pre = (rows - w["decoder_bias"]).double() @ w["encoder"].double().T
    values, indices = (pre + w["encoder_bias"].double()).relu().topk(5, dim=1)
    codes = autoencoder.encode(rows)
    torch.testing.assert_close(codes.values.double(), values, rtol=1e-5, atol=1e-6)
    active = codes.values > 0
    torch.testing.assert_close(codes.indices.long()[active], indices[active], rtol=0, atol=0)


def test_a_row_with_few_positive_features_has_values_of_zero():
    tensors = {
        "encoder": torch.eye(6, 4),
        "encoder_bias": torch.zeros(6),
        "decoder": torch.eye(6, 4),
        "decoder_bias": torch.zeros(4),
    }
    codes = TopK(features=6, k=3).encode(tensors, torch.tensor([[2.0, -1.0, -1.0, -1.0]]))
    assert codes.values.tolist() == [[2.0, 0.0, 0.0]]
    assert codes.indices[0, 0] == 0


def test_k_beyond_the_features_is_refused():
    with pytest.raises(InvalidInput, match=r"k is 7.*6"):
        TopK(features=6, k=7)


@pytest.mark.parametrize(
    ("k", "width", "given", "wanted"),
    [(8, 64, None, 8), (8, 6, None, 3), (8, 1, None, 1), (8, 64, 20, 20)],
)
def test_auxk_uses_as_many_dead_features_as_fire_and_at_most_half_the_width(
    k: int, width: int, given: int | None, wanted: int
) -> None:
    batch = StepBatch(
        rows=torch.zeros(4, width),
        target=torch.zeros(4, width),
        step=1,
        total_steps=1,
        learning_rate=1e-3,
        variance=1.0,
        dead=None,
        workspace=Workspace(),
    )
    assert TopK(features=24, k=k, aux_k=given).settings_of(batch).aux_k == wanted
