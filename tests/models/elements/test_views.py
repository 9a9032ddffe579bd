"""Parts of tensors, and the way back."""

import pytest
import torch

from isogloss.models.elements.views import View, block, interleaved, one_of, split_heads

WHOLE = torch.arange(2 * 3 * 24, dtype=torch.float32).reshape(2, 3, 24)
VIEWS = {
    "heads": split_heads(4, 6),
    "block": block(8, 16),
    "index": one_of(1, 2),
    "nested": block(8, 16).then(split_heads(2, 4)).then(one_of(2, 1)),
    "interleaved": interleaved(4, 2, 1),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))
def test_what_is_put_is_got_and_the_rest_stays(view: View):
    part = view.get(WHOLE)
    assert torch.equal(view.put(WHOLE, part), WHOLE)
    new = view.put(WHOLE, part + 1000)
    assert torch.equal(view.get(new), part + 1000)
    assert int((new != WHOLE).sum()) == part.numel()
    assert torch.equal(WHOLE.flatten(), torch.arange(144.0))


def test_interleaved_heads_are_cut_as_they_lie():
    assert interleaved(4, 2, 1).get(WHOLE)[0, 0].tolist() == [[2, 3], [8, 9], [14, 15], [20, 21]]


def test_nested_views_are_cut_one_after_another():
    assert VIEWS["nested"].get(WHOLE)[0, 0].tolist() == [12, 13, 14, 15]
