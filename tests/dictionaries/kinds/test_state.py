import torch

from isogloss.dictionaries import WiredColumns
from isogloss.dictionaries.initialise import initial_weights
from isogloss.dictionaries.kinds.kind import InitialWeights, Normalisation
from isogloss.dictionaries.kinds.state import export_biases, start_tied, state_group


def _initial(writes: range) -> InitialWeights:
    connection = WiredColumns(reads=range(4), writes=writes)
    return initial_weights(
        features=6, seed=0, connection=connection, mean=torch.arange(8, dtype=torch.float64)
    )


def test_a_run_starts_tied_at_the_mean_with_moments_of_zero():
    more = {"log_threshold": torch.full((6,), -1.0)}
    tensors = start_tied(_initial(range(4)), more)
    weights = state_group(tensors, "weights")
    assert torch.equal(weights.encoder, weights.decoder)
    assert weights.encoder.data_ptr() != weights.decoder.data_ptr()
    assert not weights.encoder_bias.any()
    assert weights.decoder_bias.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert torch.equal(tensors["weights.log_threshold"], more["log_threshold"])
    moments = [tensor for name, tensor in tensors.items() if not name.startswith("weights.")]
    assert len(moments) == 10
    assert not any(bool(tensor.any()) for tensor in moments)


def test_where_other_rows_are_read_their_mean_is_kept_and_never_trained():
    tensors = start_tied(_initial(range(4, 8)))
    assert tensors["weights.decoder_bias"].tolist() == [4.0, 5.0, 6.0, 7.0]
    assert tensors["input_bias"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert not torch.equal(tensors["weights.encoder"], tensors["weights.decoder"])
    assert "first.input_bias" not in tensors


def test_scales_of_several_sites_are_folded_into_weights_and_biases():
    tensors = start_tied(_initial(range(4, 8)))
    tensors["weights.encoder_bias"].fill_(0.1)
    reads, writes = torch.tensor([2.0, 2.0, 2.0, 2.0]), torch.tensor([1.0, 1.0, 4.0, 4.0])
    scale, rows = 0.5, torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    normalisation = Normalisation(
        scale=scale,
        variance=1.0,
        mean=torch.zeros(8, dtype=torch.float64),
        reads=reads,
        writes=writes,
    )
    made = export_biases(tensors, normalisation)
    weights = state_group(tensors, "weights")
    scaled = rows * scale * reads - tensors["input_bias"]
    pre = scaled @ weights.encoder.T + weights.encoder_bias
    raw = (rows - made["input_bias"]) @ made["encoder"].T + made["encoder_bias"]
    torch.testing.assert_close(raw, pre / scale)
    wanted = (pre.relu() @ weights.decoder + weights.decoder_bias) / (scale * writes)
    torch.testing.assert_close(raw.relu() @ made["decoder"] + made["decoder_bias"], wanted)


def test_biases_are_divided_by_the_scale_and_directions_kept():
    tensors = start_tied(_initial(range(4)))
    tensors["weights.encoder_bias"].fill_(3.0)
    made = export_biases(
        tensors, Normalisation(scale=0.5, variance=1.0, mean=torch.zeros(4, dtype=torch.float64))
    )
    assert made["encoder_bias"].tolist() == [6.0] * 6
    assert made["decoder_bias"].tolist() == [0.0, 2.0, 4.0, 6.0]
    for name in ("encoder", "decoder"):
        assert torch.equal(made[name], tensors[f"weights.{name}"])
        assert made[name].data_ptr() != tensors[f"weights.{name}"].data_ptr()
