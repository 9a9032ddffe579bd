"""Calls bound by the signature of the module."""

import functools
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from isogloss.models.passes.inputs import Arguments, Copies, Signature

IDS, MASK = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 1, 0]])


class Named(nn.Module):
    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **more: object
    ) -> None: ...


class Short(nn.Module):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> None: ...


class Batch(nn.Module):
    def forward(self, batch: Mapping[str, Tensor]) -> None: ...


class Wrapper(nn.Module):
    """Passes all on, as wrappers of training libraries do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: object, **kwargs: object) -> object:
        return self.inner(*args, **kwargs)


def bound(module: nn.Module, *args: object, **kwargs: object) -> Arguments:
    return Signature(module).bind(args, kwargs)


@pytest.mark.parametrize("module", [Named(), Wrapper(Named()), Wrapper(Wrapper(Named()))])
def test_ids_and_mask_are_found_by_name_and_by_position(module: nn.Module):
    for found in (
        bound(module, IDS, MASK),
        bound(module, IDS, attention_mask=MASK),
        bound(module, attention_mask=MASK, input_ids=IDS),
    ):
        assert found.ids is IDS
        assert found.tensor("attention_mask") is MASK


def test_a_forward_that_a_library_has_patched_keeps_its_signature():
    module = Named()
    old = module.forward

    def new(module: nn.Module, *args: object, **kwargs: object) -> object: ...

    patched = functools.update_wrapper(functools.partial(new, module), old)
    vars(module)["forward"] = patched
    assert bound(module, IDS, MASK).tensor("attention_mask") is MASK


def test_a_batch_given_as_one_mapping_is_opened():
    for module in (Batch(), Named()):
        found = bound(module, {"input_ids": IDS, "attention_mask": MASK})
        assert found.ids is IDS
        assert found.tensor("attention_mask") is MASK


def test_other_names_and_bare_positions_hold_ids_too():
    assert bound(Short(), IDS).ids is IDS
    assert bound(Short(), mask=MASK, x=IDS).ids is IDS
    assert bound(nn.Sequential(nn.Embedding(4, 2)), IDS).ids is IDS
    many = Wrapper(Short())
    many.other = Short()
    assert bound(many, IDS).ids is IDS
    assert bound(many, input_ids=IDS, labels=MASK).ids is IDS


def test_what_is_no_table_of_whole_numbers_is_no_ids():
    for odd in (IDS[0], IDS.float(), IDS.bool(), IDS[None]):
        found = bound(Named(), odd)
        assert found.ids is None
        assert str(odd.dtype) in found.odd_ids
    assert bound(Named(), inputs_embeds=torch.zeros(1, 3, 4)).odd_ids == "nothing"
    assert bound(Named(), attention_mask=MASK).ids is None  # no mask is taken for ids
    assert bound(Short(), "a text").odd_ids == "str"


def test_a_cache_is_found_by_the_names_that_libraries_give_it():
    cache = object()
    for name in ("past_key_values", "past_kv_cache", "cache_params", "layer_past", "mems"):
        assert bound(Named(), IDS, **{name: cache}).cache is cache
    assert bound(Named(), IDS, past_key_values=None).cache is None


def test_a_call_that_fits_no_signature_is_left_to_the_module():
    found = bound(Short(), IDS, MASK, MASK)
    assert found.ids is IDS


def test_a_tensor_is_copied_once_unless_it_changed() -> None:
    copies, ids = Copies(), IDS.clone()
    first = copies.of(ids)
    assert first is not ids
    assert copies.of(ids) is first
    ids[0, 0] = 77
    second = copies.of(ids)
    assert isinstance(first, torch.Tensor)
    assert isinstance(second, torch.Tensor)
    assert (int(first[0, 0]), int(second[0, 0])) == (int(IDS[0, 0]), 77)
    with torch.inference_mode():
        uncounted = IDS.clone()
        one = copies.of(uncounted)
        uncounted[0, 0] = 78
        other = copies.of(uncounted)
    assert isinstance(one, torch.Tensor)
    assert isinstance(other, torch.Tensor)
    assert (int(one[0, 0]), int(other[0, 0])) == (int(IDS[0, 0]), 78)
    for value in (None, "text", torch.zeros(2, 3, 4), torch.zeros(2, 2, requires_grad=True)):
        assert copies.of(value) is value
