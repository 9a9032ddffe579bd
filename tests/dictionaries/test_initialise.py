import pytest
import torch
from jaxtyping import TypeCheckError

from isogloss.dictionaries import InitialWeights, WiredColumns, initial_decoder
from isogloss.dictionaries.initialise import initial_weights
from isogloss.dictionaries.training.state import mean_cosine


def test_the_initial_decoder_is_a_pure_function_of_its_seed():
    first, again, other = (initial_decoder(40, 12, seed) for seed in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert mean_cosine(first, other) < 0.2
    torch.testing.assert_close(first.norm(dim=1), torch.ones(40), rtol=1e-6, atol=1e-6)


def test_an_autoencoder_starts_with_its_encoder_tied_to_its_decoder():
    same = WiredColumns(reads=range(4), writes=range(4))
    found = initial_weights(features=6, seed=2, connection=same, mean=torch.arange(4.0))
    torch.testing.assert_close(found.encoder, initial_decoder(6, 4, 2), rtol=0, atol=0)
    torch.testing.assert_close(found.decoder, found.encoder, rtol=0, atol=0)
    assert found.mean.tolist() == found.target_mean.tolist() == [0, 1, 2, 3]
    assert found.reads_what_it_writes


def test_a_dictionary_that_writes_to_other_columns_starts_with_directions_of_their_widths():
    other = WiredColumns(reads=range(3), writes=range(3, 8))
    found = initial_weights(features=6, seed=2, connection=other, mean=torch.arange(8.0))
    assert (found.encoder.shape, found.decoder.shape) == ((6, 3), (6, 5))
    assert (found.mean.tolist(), found.target_mean.tolist()) == ([0, 1, 2], [3, 4, 5, 6, 7])
    assert not found.reads_what_it_writes


def test_annotated_shapes_are_checked_under_pytest():
    with pytest.raises(TypeCheckError, match="mean"):
        InitialWeights(
            encoder=torch.eye(6, 4),
            decoder=torch.eye(6, 4),
            mean=torch.zeros(3),
            target_mean=torch.zeros(4),
            reads_what_it_writes=True,
        )
