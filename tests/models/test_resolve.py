"""Widths of sites: seen in a forward pass, or declared by the submodule."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5Model

from isogloss.errors import InvalidInput, UnknownSite
from isogloss.models.resolve import (
    device_of,
    document_sites,
    find_sites,
    forward_parameters,
    resolve_sites,
    row_width,
)


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


def test_inputs_go_where_the_hooks_of_offloaded_weights_run_them():
    module = nn.Sequential(nn.Linear(1, 1, device="meta"), nn.Linear(1, 1, device="meta"))
    vars(module)["_hf_hook"] = SimpleNamespace(execution_device=None)  # as accelerate leaves them
    vars(module[0])["_hf_hook"] = SimpleNamespace(
        hooks=[SimpleNamespace(execution_device="cpu")], execution_device=None
    )
    assert device_of(module).type == "cpu"
    assert device_of(nn.Sequential(nn.Linear(1, 1, device="meta"), nn.Linear(1, 1))).type == "cpu"


def test_names_are_found_and_nothing_is_run():
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.ReLU(), nn.ReLU()])

        def forward(self, input_ids: torch.Tensor) -> None:
            raise ArithmeticError("planted")

    assert find_sites(Fails(), ["layers.1", "layers.*"]) == ("layers.1", "layers.0")
    with pytest.raises(UnknownSite):
        find_sites(Fails(), ["layers.2"])
    with pytest.raises(ArithmeticError):
        resolve_sites(Fails(), ["layers.1"])


def test_a_width_is_the_numbers_of_a_token_whatever_the_layout():
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.heads = nn.Embedding(9, 8), nn.Identity()

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.heads(self.table(input_ids).unflatten(2, (4, 2)).transpose(1, 2))

    (site,) = resolve_sites(Heads(), ["heads"])
    assert site.width == 8


def test_widths_of_encoder_and_decoder_are_seen_in_one_pass():
    config = T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    found = resolve_sites(T5Model(config), ["encoder.block.0", "decoder.block.0"])
    assert [site.width for site in found] == [16, 16]


def test_a_model_that_takes_ids_by_another_name_is_run_on_two_tokens():
    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.hook, self.passes = nn.Embedding(9, 8), nn.Identity(), 0

        def forward(self, tokens: torch.Tensor, return_type: str = "logits") -> torch.Tensor:
            self.passes += 1
            return self.hook(self.table(tokens))

    module = Hooked()
    assert [site.width for site in document_sites(module, ["table"])] == [8]
    assert module.passes == 0
    assert [site.width for site in document_sites(module, ["hook", "table"])] == [8, 8]
    assert module.passes == 1
    with pytest.raises(InvalidInput, match="pass example="):
        resolve_sites(module, ["hook"])


def test_a_model_that_takes_no_token_ids_is_told_what_documents_are():
    class Pictures(nn.Module):
        def __init__(self):
            super().__init__()
            self.site = nn.Sequential(nn.Conv2d(3, 4, 2))

        def forward(self, pixel_values: Tensor) -> Tensor:
            return self.site(pixel_values)

    with pytest.raises(InvalidInput, match="takes 'pixel_values': documents are token ids") as told:
        document_sites(Pictures(), ["site"])
    assert isinstance(told.value.__cause__, RuntimeError)
