"""Zeros, means and other texts' activations."""

import pytest
import torch
from tests.models.elements.families import IDS, family

from isogloss.errors import InvalidInput, ShapeError
from isogloss.models import capture
from isogloss.models.patching.ablations import ablate

SITES = ["layers.0.attn.head.1", "layers.1.mlp", "layers.1.attn.heads.pattern"]


def seen_at(site: str, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad(), capture(family("llama"), [site]) as seen:
        family("llama")(ids)
    return seen[site]


@pytest.mark.parametrize("site", SITES)
def test_each_way_puts_what_it_says_in_the_place(site: str):
    module, own = family("llama"), seen_at(site)
    others = seen_at(site, IDS.flip(0) + 5)
    with ablate(module, [site]):
        assert not seen_at(site).any()
    with ablate(module, [site], "mean", reference={site: others}):
        over = (0,) if "pattern" in site else (0, 1)
        torch.testing.assert_close(seen_at(site), others.mean(over, keepdim=True).expand_as(own))
    with ablate(module, [site], "resample", reference={site: others}, seed=2):
        drawn = seen_at(site)
        assert all(any(torch.equal(row, other) for other in others) for row in drawn)
        assert torch.equal(drawn, seen_at(site))
    assert torch.equal(seen_at(site), own)


def test_what_cannot_be_ablated_is_refused():
    module = family("llama")
    with pytest.raises(InvalidInput, match=r"reference=.*lacks"), ablate(module, SITES, "mean"):
        pass
    short = {SITES[1]: seen_at(SITES[1])[:, :3]}
    with (
        pytest.raises(ShapeError, match="texts of the same length"),
        ablate(module, SITES[1:2], "resample", reference=short),
    ):
        module(IDS)
