import pytest
import torch
from torch import Tensor

from isogloss.dictionaries import Dictionary, DictionaryProvenance, SparseDictionary
from isogloss.dictionaries.testing import DictionaryContract
from isogloss.errors import InvalidInput, ShapeError

SETTINGS = {"features": 6, "k": 2}


def _tensors() -> dict[str, Tensor]:
    return {
        "encoder": torch.eye(6, 4),
        "encoder_bias": torch.zeros(6),
        "decoder": torch.eye(6, 4),
        "decoder_bias": torch.zeros(4),
    }


class TestSparseDictionary(DictionaryContract):
    def make(self) -> Dictionary:
        generator = torch.Generator().manual_seed(11)
        decoder = torch.nn.functional.normalize(torch.randn(40, 12, generator=generator))
        tensors = {
            "encoder": decoder.clone(),
            "encoder_bias": 0.1 * torch.randn(40, generator=generator),
            "decoder": decoder,
            "decoder_bias": torch.randn(12, generator=generator),
        }
        settings = {"features": 40, "k": 5}
        return SparseDictionary.make("topk", settings, tensors, DictionaryProvenance())


def test_decoding_sends_gradients_to_the_values(autoencoder: SparseDictionary):
    codes = autoencoder.encode(torch.randn(3, autoencoder.width))
    values = codes.values.clone().requires_grad_()
    edited = type(codes)(values=values, indices=codes.indices, features=codes.features)
    autoencoder.decode(edited).sum().backward()
    expected = autoencoder.decoder.sum(dim=1)[codes.indices.long()]
    assert values.grad is not None
    torch.testing.assert_close(values.grad, expected, rtol=1e-4, atol=1e-5)


def test_moving_to_a_device_keeps_the_values(autoencoder: SparseDictionary):
    moved = autoencoder.to("cpu")
    torch.testing.assert_close(moved.decoder, autoencoder.decoder, rtol=0, atol=0)
    assert moved.provenance == autoencoder.provenance


@pytest.mark.parametrize("name", ["encoder", "encoder_bias", "decoder", "decoder_bias"])
@pytest.mark.parametrize(
    "wrong", [torch.zeros(3), torch.zeros(3, 3), torch.zeros(6, 4, dtype=torch.float64)]
)
def test_tensors_that_do_not_fit_each_other_are_refused(name: str, wrong: Tensor):
    with pytest.raises(ShapeError, match=r"wanted torch\.float32"):
        SparseDictionary.make("topk", SETTINGS, _tensors() | {name: wrong}, DictionaryProvenance())


def test_tensors_that_are_missing_or_unknown_are_refused():
    without = {name: tensor for name, tensor in _tensors().items() if name != "encoder_bias"}
    more = _tensors() | {"threshold": torch.zeros(6)}
    for tensors in (without, more):
        with pytest.raises(ShapeError, match=r"wanted \['encoder', 'encoder_bias'"):
            SparseDictionary.make("topk", SETTINGS, tensors, DictionaryProvenance())


def test_tensors_that_are_strided_are_refused():
    strided = _tensors() | {"decoder": torch.zeros(4, 6).T}
    with pytest.raises(ShapeError, match="contiguous"):
        SparseDictionary.make("topk", SETTINGS, strided, DictionaryProvenance())


def test_settings_that_the_kind_refuses_are_refused():
    with pytest.raises(InvalidInput, match=r"k is 7.*6"):
        SparseDictionary.make("topk", SETTINGS | {"k": 7}, _tensors(), DictionaryProvenance())
    with pytest.raises(InvalidInput, match="no kind 'no_such'"):
        SparseDictionary.make("no_such", SETTINGS, _tensors(), DictionaryProvenance())
