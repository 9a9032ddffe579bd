"""Numbers of the next token."""

import math

import pytest
import torch
from tests.models.patching.tiny import model, pairs

from isogloss.errors import InvalidInput
from isogloss.models.patching.metrics import check_metric, last_logits, measure

LOGITS = torch.zeros(2, 20)
LOGITS[0, 7], LOGITS[1, 8] = 2.0, 1.0


def test_a_logit_difference_is_the_log_of_the_odds():
    found = measure("logit_difference", LOGITS, pairs(), LOGITS)
    assert found.tolist() == pytest.approx([2.0, 1.0 - math.log(2)])


def test_a_probability_is_of_the_right_tokens_together():
    found = measure("probability", LOGITS, pairs(), LOGITS)
    assert found.tolist() == pytest.approx(
        [math.exp(2) / (19 + math.exp(2)), math.e / (19 + math.e)]
    )


def test_kl_is_from_the_clean_run():
    assert measure("kl", LOGITS, pairs(), LOGITS).abs().max() < 1e-6
    other = torch.zeros(2, 20)
    p = torch.softmax(LOGITS[0], 0)
    wanted = float((p * (p.log() + math.log(20))).sum())
    assert float(measure("kl", other, pairs(), LOGITS)[0]) == pytest.approx(wanted, rel=1e-5)


def test_logits_are_those_of_the_last_token():
    ids = pairs().clean
    with torch.no_grad():
        assert torch.equal(last_logits(model().module, ids), model().module(ids).logits[:, -1])


def test_no_logits_and_no_metric_are_refused():
    with pytest.raises(InvalidInput, match="causal=True"):
        last_logits(model("bert").module, pairs().clean)
    with pytest.raises(InvalidInput, match="wanted one of logit_difference, probability, kl"):
        check_metric("loss")
