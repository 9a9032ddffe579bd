import pytest
import torch
from jaxtyping import TypeCheckError

from isogloss.dictionaries import Dictionary, DictionaryProvenance, SparseAutoencoder
from isogloss.dictionaries.initialise import initial_weights
from isogloss.dictionaries.testing import DictionaryContract
from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import Weights


def _weights(features: int = 6, width: int = 4) -> Weights:
    return Weights(
        encoder=torch.eye(features, width),
        encoder_bias=torch.zeros(features),
        decoder=torch.eye(features, width),
        decoder_bias=torch.zeros(width),
    )


class TestSparseAutoencoder(DictionaryContract):
    def make(self) -> Dictionary:
        generator = torch.Generator().manual_seed(11)
        decoder = torch.nn.functional.normalize(torch.randn(40, 12, generator=generator))
        weights = Weights(
            encoder=decoder.clone(),
            encoder_bias=0.1 * torch.randn(40, generator=generator),
            decoder=decoder,
            decoder_bias=torch.randn(12, generator=generator),
        )
        return SparseAutoencoder(weights=weights, k=5, provenance=DictionaryProvenance())


def test_codes_are_the_topk_of_the_formula(autoencoder: SparseAutoencoder):
    rows = torch.randn(33, autoencoder.width, generator=torch.Generator().manual_seed(1))
    w = autoencoder.weights
    pre = (rows - w.decoder_bias).double() @ w.encoder.double().T + w.encoder_bias.double()
    values, indices = pre.relu().topk(autoencoder.k, dim=1)
    codes = autoencoder.encode(rows)
    torch.testing.assert_close(codes.values.double(), values, rtol=1e-5, atol=1e-6)
    active = codes.values > 0
    torch.testing.assert_close(codes.indices.long()[active], indices[active], rtol=0, atol=0)


def test_decoding_sends_gradients_to_the_values(autoencoder: SparseAutoencoder):
    codes = autoencoder.encode(torch.randn(3, autoencoder.width))
    values = codes.values.clone().requires_grad_()
    edited = type(codes)(values=values, indices=codes.indices, features=codes.features)
    autoencoder.decode(edited).sum().backward()
    expected = autoencoder.decoder.sum(dim=1)[codes.indices.long()]
    assert values.grad is not None
    torch.testing.assert_close(values.grad, expected, rtol=1e-4, atol=1e-5)


def test_a_row_with_few_positive_features_has_values_of_zero():
    dictionary = SparseAutoencoder(weights=_weights(), k=3, provenance=DictionaryProvenance())
    codes = dictionary.encode(torch.tensor([[2.0, -1.0, -1.0, -1.0]]))
    assert codes.values.tolist() == [[2.0, 0.0, 0.0]]
    assert codes.indices[0, 0] == 0


def test_moving_to_a_device_keeps_the_values(autoencoder: SparseAutoencoder):
    moved = autoencoder.to("cpu")
    torch.testing.assert_close(moved.decoder, autoencoder.decoder, rtol=0, atol=0)
    assert moved.provenance == autoencoder.provenance


@pytest.mark.parametrize("name", ["encoder", "encoder_bias", "decoder_bias"])
def test_weights_that_do_not_fit_each_other_are_refused(name: str):
    parts = {
        part: getattr(_weights(), part)
        for part in ("encoder", "encoder_bias", "decoder", "decoder_bias")
    }
    parts[name] = torch.zeros(3)
    with pytest.raises(ShapeError, match=rf"{name}.*\(3,\)|\(3,\)"):
        SparseAutoencoder(weights=Weights(**parts), k=1, provenance=DictionaryProvenance())


def test_k_beyond_the_features_is_refused():
    with pytest.raises(InvalidInput, match=r"k is 7.*6"):
        SparseAutoencoder(weights=_weights(), k=7, provenance=DictionaryProvenance())


def test_annotated_shapes_are_checked_under_pytest():
    with pytest.raises(TypeCheckError, match="mean"):
        initial_weights(torch.eye(6, 4), torch.zeros(3))
