"""A model in which the class of the token before decides what follows, and its dictionary."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from isogloss.dictionaries import DictionaryModule, DictionaryProvenance, SparseDictionary
from isogloss.models import LoadedModel

TOKENS, CLASSES, LENGTH = 40, 4, 24
WIDTH = TOKENS + CLASSES
SITE = "mix"
FOLLOW = torch.arange(12).reshape(CLASSES, 3) + 20
"""Tokens that a class of the token before makes likely, ``[classes, 3]``."""


@dataclass(frozen=True)
class Config:
    """What says how many tokens the model knows."""

    vocab_size: int = TOKENS


class Before(nn.Module):
    """Adds the class of the token before to each token's direction."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x[:, :-1, :TOKENS].argmax(-1)
        x = x.clone()
        x[:, 1:, TOKENS:] = nn.functional.one_hot(tokens % CLASSES, CLASSES).to(x)
        return x


class Classes(nn.Module):
    """Its logits depend on the class of the token before, and on nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.embed = nn.Embedding.from_pretrained(torch.eye(TOKENS, WIDTH))
        self.mix = Before()
        self.unembed = nn.Linear(WIDTH, TOKENS, bias=False)
        with torch.no_grad():
            self.unembed.weight.zero_()
            for one, some in enumerate(FOLLOW):
                self.unembed.weight[some, TOKENS + one] = 4.0

    def forward(self, ids: Tensor) -> Tensor:
        return self.unembed(self.mix(self.embed(ids)))


@cache
def model() -> LoadedModel:
    return LoadedModel(module=Classes().eval(), name="classes")


def noting(passes: list[object]) -> Callable[..., None]:
    """Return a hook that notes each pass."""

    def note(*given: object) -> None:
        passes.append(given)

    return note


def dictionary() -> DictionaryModule:
    """A feature for each token, then one for each class: exactly what there is."""
    axes = torch.eye(WIDTH)
    tensors = {
        "encoder": axes.clone(), "encoder_bias": torch.zeros(WIDTH), "decoder": axes.clone(),
        "decoder_bias": torch.zeros(WIDTH),
    }  # fmt: skip
    made = SparseDictionary.make(
        "topk", {"features": WIDTH, "k": 2}, tensors, DictionaryProvenance(), wiring="sae"
    )
    return DictionaryModule(made)


def texts(count: int = 40, seed: int = 0) -> Tensor:
    """Draw texts by the model's own chances."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(TOKENS, (count, 2), generator=random)
    with torch.no_grad():
        while ids.shape[1] < LENGTH:
            chances = torch.softmax(model().module(ids)[:, -1], -1)
            ids = torch.cat([ids, torch.multinomial(chances, 1, generator=random)], 1)
    return ids
