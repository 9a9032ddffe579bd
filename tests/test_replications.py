"""Replications find what their pages say."""

import pytest
import torch
from replications import induction, superposition


def test_five_features_in_two_dimensions_lie_as_a_pentagon():
    assert superposition.is_regular(superposition.pentagon(), 2 / 5)


def test_features_that_do_not_share_alike_are_no_regular_figure():
    assert not superposition.is_regular(torch.eye(4)[:, :2], 1 / 2)
    assert not superposition.is_regular(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), 1.0)
    torch.testing.assert_close(superposition.dimensionality(torch.eye(2)), torch.ones(2))


def test_repetitions_are_at_distances_of_their_own():
    ids, is_repeated = induction.repeats(torch.Generator().manual_seed(0), 64)
    first = is_repeated.int().argmax(1)
    assert len(set(first.tolist())) > 5
    for row, period in zip(ids, first.tolist(), strict=True):
        assert torch.equal(row[period:], row[:-period])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_layers_of_attention_learn_induction_by_a_previous_token_head(seed: int):
    last = induction.train(seed)[-1]
    assert last.induction >= 0.5
    assert last.previous >= 0.5
    assert last.loss < 0.3


@pytest.mark.slow
def test_every_claim_of_the_page_about_superposition_is_found():
    shares = superposition.represented()
    figures = superposition.pentagon(), superposition.digons(), superposition.antiprism()
    assert all(superposition.checks(*figures, shares).values()), shares
