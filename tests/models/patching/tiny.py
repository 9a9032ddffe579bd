"""A tiny causal model and pairs of ids for it."""

import torch
from tests.models.elements.families import family

from isogloss.models import LoadedModel
from isogloss.models.patching.pairs import TextPairs

CLEAN = torch.tensor([[5, 8, 13, 21, 34, 3], [4, 2, 7, 18, 28, 6]])
CORRUPT = torch.tensor([[5, 9, 13, 21, 34, 3], [4, 11, 7, 18, 28, 6]])


def model(name: str = "llama") -> LoadedModel:
    return LoadedModel(module=family(name), name="tiny")


def pairs() -> TextPairs:
    return TextPairs(
        clean=CLEAN, corrupt=CORRUPT, right=((7,), (8,)), wrong=((9,), (10, 12)),
        tokens=("a", "b", "c", "d", "e", "f"),
    )  # fmt: skip
