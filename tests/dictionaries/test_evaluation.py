import numpy as np
import pytest
import torch

from isogloss.dictionaries import DictionaryProvenance, SparseDictionary, evaluate
from isogloss.errors import InvalidInput, NonFiniteRows, ShapeError


def _identity(width: int, k: int) -> SparseDictionary:
    """A dictionary that reconstructs the k largest positive coordinates exactly."""
    tensors = {
        "encoder": torch.eye(width),
        "encoder_bias": torch.zeros(width),
        "decoder": torch.eye(width),
        "decoder_bias": torch.zeros(width),
    }
    settings = {"features": width, "k": k}
    return SparseDictionary.make("topk", settings, tensors, DictionaryProvenance())


def test_figures_of_a_dictionary_worked_out_by_hand():
    # coordinate 2 is never reconstructed: k = 1 keeps the larger of the first two
    rows = torch.tensor([[3.0, 0.0, -1.0], [0.0, 2.0, 1.0], [4.0, 0.0, 0.0], [0.0, 0.0, -2.0]])
    found = evaluate(_identity(3, 1), [rows[:3], rows[3:]])
    errors = 1 + 1 + 0 + 4
    variance = float((rows - rows.mean(0)).square().sum())
    assert found.rows == 4
    assert found.fvu == pytest.approx(errors / variance, rel=1e-12)
    assert found.l0 == pytest.approx(3 / 4)
    assert found.density.tolist() == [0.5, 0.25, 0.0]
    assert found.dead_fraction == pytest.approx(1 / 3)


def test_fvu_of_a_dictionary_that_returns_the_mean_is_one():
    rows = torch.randn(500, 6, generator=torch.Generator().manual_seed(2)) + 100
    dictionary = _identity(6, 1)
    dictionary.tensors["decoder_bias"].copy_(rows.mean(0))
    dictionary.tensors["encoder_bias"].fill_(-1e6)
    assert evaluate(dictionary, rows.split(64)).fvu == pytest.approx(1.0, abs=1e-6)


def test_batches_of_any_size_give_the_same_figures(autoencoder: SparseDictionary):
    rows = torch.randn(300, autoencoder.width, generator=torch.Generator().manual_seed(2))
    whole, parts = (evaluate(autoencoder, rows.split(size)) for size in (300, 7))
    assert whole.fvu == pytest.approx(parts.fvu, rel=1e-9)
    np.testing.assert_array_equal(whole.density, parts.density)


def test_a_mean_a_thousand_times_the_spread_does_not_spoil_fvu():
    rows = torch.randn(400, 4, generator=torch.Generator().manual_seed(2)).double() + 1e4
    found = evaluate(_identity(4, 4), [rows.float()])
    assert found.fvu == pytest.approx(0.0, abs=1e-12)


def test_bfloat16_rows_are_measured_as_they_are(autoencoder: SparseDictionary):
    rows = torch.randn(100, autoencoder.width).to(torch.bfloat16)
    assert evaluate(autoencoder, [rows]).fvu == evaluate(autoencoder, [rows.float()]).fvu


def test_the_scalar_figures_are_json_ready(autoencoder: SparseDictionary):
    found = evaluate(autoencoder, [torch.randn(64, autoencoder.width)]).to_dict()
    assert set(found) == {
        *("rows", "fvu", "usual_fvu", "usual_rows", "l0", "dead_fraction"),
        *("explained_variance", "explained_by_row", "shrinkage", "redundancy"),
    }


def test_rows_that_cannot_be_measured_are_refused(autoencoder: SparseDictionary):
    width = autoencoder.width
    with pytest.raises(InvalidInput, match="no rows"):
        evaluate(autoencoder, [])
    with pytest.raises(InvalidInput, match="no rows"):
        evaluate(autoencoder, [torch.zeros(0, width)])
    with pytest.raises(InvalidInput, match="do not vary"):
        evaluate(autoencoder, [torch.ones(5, width)])
    with pytest.raises(NonFiniteRows, match="finite"):
        evaluate(autoencoder, [torch.full((5, width), float("nan"))])
    with pytest.raises(ShapeError, match=str(width)):
        evaluate(autoencoder, [torch.zeros(5, width + 1)])


def test_shrinkage_both_explained_variances_and_redundancy_are_those_of_the_formulas() -> None:
    rows = torch.randn(500, 6, generator=torch.Generator().manual_seed(3)) * 2 + 50.0
    both = torch.cat([torch.eye(6), -torch.eye(6)])
    tensors = {
        "encoder": both,
        "encoder_bias": torch.zeros(12),
        "decoder": 0.7 * both,
        "decoder_bias": rows.mean(0),
    }
    short = SparseDictionary.make(
        "topk", {"features": 12, "k": 12}, tensors, DictionaryProvenance()
    )
    found = evaluate(short, rows.split(200))
    mean, first = rows.double().mean(0), rows[:200].double().mean(0)
    made = (rows.double() - mean) * 0.7
    y = rows.double() - mean
    assert found.shrinkage == pytest.approx(float(made.square().sum() / (made * y).sum()), rel=1e-4)
    assert found.shrinkage == pytest.approx(0.7, rel=1e-3)
    assert found.explained_variance == pytest.approx(1 - 0.3**2, rel=1e-3)
    errors = (0.3 * y).square().sum(1) / (rows.double() - first).square().sum(1)
    assert found.explained_by_row == pytest.approx(float((1 - errors).mean()), rel=1e-3)
    assert found.redundancy == pytest.approx(0.0, abs=1e-6)
    assert {"explained_variance", "explained_by_row", "shrinkage"} <= found.to_dict().keys()


def test_redundancy_is_the_cosine_to_the_nearest_other_feature_that_fires() -> None:
    tensors = {
        "encoder": torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]),
        "encoder_bias": torch.tensor([0.0, 0.0, -1e6]),  # the last never fires
        "decoder": torch.tensor([[2.0, 0.0], [0.6, 0.8], [0.6, 0.8]]),
        "decoder_bias": torch.zeros(2),
    }
    made = SparseDictionary.make("topk", {"features": 3, "k": 3}, tensors, DictionaryProvenance())
    rows = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    assert evaluate(made, [rows]).redundancy == pytest.approx(0.6)
