import torch
from torch import nn

from isogloss.models.identity.values import values_of


def test_numbers_are_found_in_memory_and_where_accelerate_keeps_them() -> None:
    layer = nn.Linear(2, 2)
    assert values_of(layer, "weight", layer.weight) is not None
    away = nn.Linear(2, 2, device="meta")
    assert values_of(away, "weight", away.weight) is None

    class Hook:
        weights_map = {"weight": torch.ones(2, 2)}  # noqa: RUF012 - as accelerate has it

    vars(away)["_hf_hook"] = Hook()
    found = values_of(away, "weight", away.weight)
    assert found is not None
    assert found.sum() == 4
