"""Patterns are never taken for rows."""

from typing import Literal

import pytest
import torch
from tests.models.elements.families import GPT2
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, find_sites, record
from isogloss.models.elements.rows import refuse_pattern, refuse_pattern_name

DOCUMENTS = [[5, 8, 13, 21, 34], [3, 1, 4], [2, 7, 18, 28]]


class Attention(nn.Module):
    """An attention that gives its pattern through a submodule, as TransformerLens does."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.hook_pattern, self.weights = nn.Identity(), nn.Identity()

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids).unflatten(-1, (2, 4)).transpose(1, 2)
        pattern = self.weights(self.hook_pattern(torch.softmax(x @ x.mT, -1)))
        return (pattern @ x).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("site", ["hook_pattern", "weights"])
@pytest.mark.parametrize("layout", [None, "batch_first"])
def test_a_pattern_is_not_recorded(site: str, layout: Literal["batch_first"] | None):
    model = LoadedModel(module=Attention().eval(), name="tiny")
    with pytest.raises(InvalidInput, match=f"{site}' is an attention pattern.*cannot be recorded"):
        list(record(model, DOCUMENTS, [site], layout=layout))


def test_patterns_of_heads_are_refused_before_any_pass():
    model = GPT2LMHeadModel(GPT2Config(**GPT2))
    with pytest.raises(InvalidInput, match="is an attention pattern"):
        find_sites(model, ["transformer.h.0.attn.heads.pattern"])


@pytest.mark.parametrize(
    "name", ["blocks.0.attn.hook_pattern", "hook_attn_scores", "h.0.attn.head.3.pattern"]
)
def test_a_name_that_means_a_pattern_is_refused(name: str):
    with pytest.raises(InvalidInput, match="attention pattern"):
        refuse_pattern_name(name)
    refuse_pattern_name("blocks.0.pattern_matcher")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_pattern_is_told_in_any_dtype(dtype: torch.dtype):
    shares = torch.softmax(torch.randn(2, 3, 60, 60), -1).to(dtype)
    with pytest.raises(InvalidInput, match="attention pattern"):
        refuse_pattern(shares, "site")
    refuse_pattern(shares[..., :50], "site")  # no sums of 1, and not square
    refuse_pattern(-shares, "site")
    refuse_pattern(torch.rand(2, 3, 60, 60, dtype=dtype), "site")
    refuse_pattern(shares[0], "site")  # shares of experts for each token are rows
