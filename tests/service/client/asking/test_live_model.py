"""What a live model makes of a text."""

import numpy as np
import pytest
import torch
from torch import nn

from isogloss.errors import InvalidInput, UnknownSite
from isogloss.models import LoadedModel
from isogloss.service.client.asking.live_model import check_model, rows_of


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


def test_what_is_no_live_model_is_refused_with_how_to_make_one() -> None:
    for odd in (None, "gpt2", nn.Linear(1, 1)):
        with pytest.raises(InvalidInput, match=r"load_model\(...\)"):
            check_model(odd)
