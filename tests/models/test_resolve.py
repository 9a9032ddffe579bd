"""Widths of sites: seen in a forward pass, or declared by the submodule."""

import pytest
import torch
from torch import nn

from isogloss.errors import InvalidInput, UnknownSite
from isogloss.models.resolve import device_of, forward_parameters, resolve_sites, row_width


def test_a_declared_width_is_read_without_running_the_module():
    module = nn.Sequential(
        nn.Embedding(5, 3), nn.Linear(3, 4), nn.LayerNorm([2, 4]), nn.Sequential(nn.Linear(4, 7))
    )
    found = resolve_sites(module, ["3", "0", "*"])
    assert [(site.name, site.width) for site in found] == [("3", 7), ("0", 3), ("1", 4), ("2", 4)]


def test_a_width_that_is_not_declared_asks_for_an_example():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with pytest.raises(InvalidInput, match=r"site '1' \(ReLU\) cannot be told .* pass example="):
        resolve_sites(module, ["1"])
    for example in (torch.zeros(1, 2, 3), (torch.zeros(1, 2, 3),), {"input": torch.zeros(1, 2, 3)}):
        (site,) = resolve_sites(module, ["1"], example=example)
        assert (site.name, site.width) == ("1", 4)
    with pytest.raises(UnknownSite):
        resolve_sites(module, ["9"])


def test_a_row_is_what_is_left_of_batch_and_tokens():
    assert row_width(torch.zeros(1, 2, 3), "s") == 3
    assert row_width(torch.zeros(1, 2, 3, 4), "s") == 12
    for wrong in (torch.zeros(1, 2), torch.zeros(1, 2, 3, dtype=torch.int64)):
        with pytest.raises(InvalidInput, match=r"site 's' gives .*; wanted floating-point"):
            row_width(wrong, "s")


def test_a_module_says_what_it_takes_and_where_it_is():
    assert forward_parameters(nn.Linear(1, 1)) == {"input"}
    assert device_of(nn.Linear(1, 1, device="meta")).type == "meta"
    assert device_of(nn.ReLU()).type == "cpu"
