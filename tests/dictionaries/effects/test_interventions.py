"""Features changed beside like ones."""

import math
from typing import Any

import pytest
import torch
from tests.dictionaries.effects.classes import (
    FOLLOW,
    SITE,
    TOKENS,
    dictionary,
    model,
    noting,
    texts,
)

from isogloss.dictionaries import feature_effect
from isogloss.errors import InvalidInput

CLASS = TOKENS + 2


@pytest.mark.parametrize("change", ["ablate", "clamp", "steer"])
def test_a_class_matters_and_tokens_do_not(change: Any):
    value = None if change == "ablate" else 5.0
    tokens = FOLLOW[2].tolist()
    found = feature_effect(
        dictionary(), model(), texts(), CLASS, change, value=value, tokens=tokens, site=SITE
    )
    assert found.kl > 0.05
    assert found.loss > 0
    assert len(found.null_kl) == 20
    assert found.p_kl < 0.25  # the other three classes matter too
    assert sum(null < 1e-6 for null in found.null_kl) >= 16
    assert all((rise < 0) == (change == "ablate") for rise in found.logits)


def test_the_numbers_are_those_of_a_loop_by_hand():
    ids, module, made = texts(3), model().module, dictionary()
    found = feature_effect(made, model(), ids, CLASS, site=SITE, count=2)
    with torch.no_grad(), made.spliced(module, SITE, ablate=[CLASS]):
        new = torch.log_softmax(module(ids), -1)
    with torch.no_grad():
        old = torch.log_softmax(module(ids), -1)
    kl = (old.exp() * (old - new)).sum(-1).mean()
    assert found.kl == pytest.approx(float(kl), rel=1e-5)
    rise = (old - new)[:, :-1].gather(-1, ids[:, 1:, None]).mean()
    assert found.loss == pytest.approx(float(rise), rel=1e-4)
    assert found.value == 0


def test_without_a_value_four_times_the_mean_activation_is_taken():
    found = feature_effect(dictionary(), model(), texts(4), CLASS, "clamp", site=SITE, count=2)
    assert found.value == pytest.approx(4.0)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"feature": 44}, "0 to 43"),
    ({"feature": -1}, "0 to 43"),
    ({"change": "ablate", "value": 2.0}, "with clamp or steer alone"),
    ({"change": "steer", "value": math.inf}, "a finite number"),
    ({"count": 0}, "1 feature at least"),
    ({"tokens": [40]}, "the model knows 0 to 39"),
    ({"tokens": [-1]}, "the model knows 0 to 39"),
]


@pytest.mark.parametrize(("setting", "said"), BAD)
def test_what_cannot_be_done_is_refused_before_any_pass(setting: dict[str, Any], said: str):
    given: dict[str, Any] = {"feature": CLASS, "site": SITE, **setting}
    passes: list[object] = []
    ids = texts(2)
    handle = model().module.register_forward_hook(noting(passes))
    try:
        with pytest.raises(InvalidInput, match=said):
            feature_effect(dictionary(), model(), ids, **given)
        assert not passes
    finally:
        handle.remove()


def test_a_feature_that_never_fires_has_no_effect_when_it_is_ablated_and_no_p():
    ids = torch.zeros(1, 4, dtype=torch.int64)
    found = feature_effect(dictionary(), model(), ids, 9, "ablate", tokens=[3, 4], site=SITE)
    assert (found.firings, found.null_kl, found.null_loss) == (0, (), ())
    numbers = [found.kl, found.loss, found.p_kl, found.p_loss, *found.logits]
    assert len(numbers) == 6
    assert all(map(math.isnan, numbers))
    fires = feature_effect(dictionary(), model(), ids, 0, "ablate", site=SITE)
    assert fires.firings == 4
    assert 0 < fires.p_kl <= 1
    added = feature_effect(dictionary(), model(), ids, CLASS, "steer", value=5.0, site=SITE)
    assert added.firings == 0
    assert added.kl > 0.05


def test_a_feature_that_does_not_fire_needs_a_value():
    ids = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(InvalidInput, match="give value="):
        feature_effect(dictionary(), model(), ids, 9, "steer", site=SITE)
