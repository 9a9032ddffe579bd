"""What a live model makes of a text."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

from isogloss import models
from isogloss.errors import InvalidInput, UnknownSite
from isogloss.models import LoadedModel
from isogloss.models.fingerprint import ancestry
from isogloss.service.client.asking import live_model
from isogloss.service.client.asking.live_model import _other_model, check_model, rows_of
from isogloss.store import ModelInfo


def test_the_rows_of_a_text_are_what_the_sites_give() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(20, 6), nn.Linear(6, 5))
    rows = rows_of(LoadedModel(module=module, name="m"), [3, 1, 4, 1, 5], ["0", "1"])
    with torch.no_grad():
        embedded = module[0](torch.tensor([3, 1, 4, 1, 5]))
        wanted = module[1](embedded)
    np.testing.assert_allclose(rows["0"], embedded.numpy())
    np.testing.assert_allclose(rows["1"], wanted.numpy(), rtol=1e-6)
    with pytest.raises(UnknownSite):
        rows_of(LoadedModel(module=module, name="m"), [1], ["7"])
    with pytest.raises(InvalidInput, match="has no token"):
        rows_of(LoadedModel(module=module, name="m"), [], ["0"])


def test_a_live_model_is_taken_as_it_is() -> None:
    model = LoadedModel(module=nn.Linear(1, 1), name="m")
    assert check_model(model) is model


def test_what_is_no_live_model_is_refused_with_how_to_make_one() -> None:
    for odd in (None, "gpt2", nn.Linear(1, 1)):
        with pytest.raises(InvalidInput, match=r"load_model\(...\)"):
            check_model(odd)


def test_a_recording_is_of_a_model_by_fingerprint_or_else_by_name() -> None:
    prints = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        prints.append(ancestry(nn.Sequential(nn.Embedding(300, 64), nn.Linear(64, 64))))
    own, other = (ModelInfo(name="m", ancestry=one) for one in prints)
    assert _other_model(own, ModelInfo(name="copy", ancestry=prints[0])) == ""
    assert "its recording is of another model, 'm'" in _other_model(own, other)
    unknown = ModelInfo(name="m")
    assert _other_model(own, unknown) == _other_model(unknown, own) == ""
    assert _other_model(own, ModelInfo(name="n")) == "its recording is of 'n', not of 'm'"


def test_a_fingerprint_is_taken_again_only_after_a_weight_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken, taking = list[str](), models.ancestry

    def counted(module: nn.Module, tokenizer: None) -> Mapping[str, object]:
        taken.append(str(module))
        return taking(module, tokenizer)

    monkeypatch.setattr(models, "ancestry", counted)
    module = nn.Sequential(nn.Embedding(20, 6), nn.Linear(6, 5))
    live = LoadedModel(module=module, name="m")
    first = live_model._fingerprint(live)
    assert live_model._fingerprint(live) == first
    assert len(taken) == 1
    linear = module[1]
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.neg_()
    changed = live_model._fingerprint(live)
    assert len(taken) == 2
    assert changed != first
    linear.weight = nn.Parameter(torch.randn(5, 6))  # another tensor in its place
    assert live_model._fingerprint(live) != changed
