"""Patterns within a forward pass."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from isogloss.errors import InvalidInput
from isogloss.models.elements.patterns import PatternMode

SCORES = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(0))


def test_the_pattern_is_what_is_dropped_out_behind_a_softmax():
    seen: list[Tensor] = []
    mode = PatternMode("site", lambda pattern: seen.append(pattern) or pattern * 0)
    with mode:
        functional.dropout(SCORES, 0.5)  # before the softmax: no pattern
        shares = nn.Softmax(-1)(SCORES)
        dropped = nn.Dropout(0.0)(shares)
    mode.require_one()
    assert torch.equal(seen[0], torch.softmax(SCORES, -1))
    assert not dropped.any()


@pytest.mark.parametrize("times", [0, 2])
def test_another_number_of_patterns_is_refused(times: int):
    mode = PatternMode("a.site", lambda pattern: pattern)
    with mode:
        for _ in range(times):
            functional.dropout(torch.softmax(SCORES, -1), 0.0)
    with pytest.raises(InvalidInput, match=f"'a.site': {times} patterns"):
        mode.require_one()


def test_a_fused_kernel_is_refused_with_its_remedy():
    with (
        pytest.raises(InvalidInput, match="attn_implementation='eager'"),
        PatternMode("site", lambda pattern: pattern),
    ):
        functional.scaled_dot_product_attention(SCORES, SCORES, SCORES)
