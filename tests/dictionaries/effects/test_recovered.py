"""The loss with a site rebuilt."""

import pytest
import torch
from tests.dictionaries.effects.classes import SITE, TOKENS, dictionary, model, texts

from isogloss.dictionaries import loss_recovered
from isogloss.errors import InvalidInput


def test_an_exact_dictionary_loses_nothing_and_one_without_classes_all():
    exact = loss_recovered(dictionary(), model(), texts(), site=SITE)
    assert exact.share == pytest.approx(1)
    assert exact.ablated > exact.clean + 0.1
    blind = dictionary()
    with torch.no_grad():
        blind.get_parameter("decoder")[TOKENS:] = 0
    assert loss_recovered(blind, model(), texts(), site=SITE).share == pytest.approx(0, abs=1e-6)


def test_texts_without_a_next_token_are_refused():
    with pytest.raises(InvalidInput, match="2 of content"):
        loss_recovered(dictionary(), model(), texts()[:, :1], site=SITE)
