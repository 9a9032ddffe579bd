"""Replications find what their pages say."""

import re

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


def test_a_page_says_of_each_claim_whether_it_was_found_and_stands_alone():
    five, pairs = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.eye(2)
    eight = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    shares = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    held = superposition.checks(torch.eye(5)[:, :2], pairs, eight, shares)
    assert held["represented share monotone in sparsity"]
    assert not held["antiprism"]
    page = superposition.page(five, pairs, eight, shares, held)
    assert page.count("✓ found") == sum(held.values())
    assert page.count("✗ not found") == 4 - sum(held.values())
    assert page.count("<svg") == 4
    assert not re.search(r"(src|href)=|url\(|<script|nan", page)


def test_the_page_about_induction_draws_the_course_and_both_heads():
    torch.manual_seed(0)
    course = [induction.Point(step=200 * i, loss=3.4 - i, previous=0.3 * i, induction=0.4 * i)
              for i in range(3)]  # fmt: skip
    page = induction.page(induction.Model().eval(), course, (0.9, 0.1))
    assert page.count("<svg") == 3
    assert page.count("✓ found") == 2  # the effect of the second layer is below the bar
    assert "take away 90.0% of what" in page
    assert not re.search(r"(src|href)=|url\(|<script", page)


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
