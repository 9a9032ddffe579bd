"""Models whose own methods call forward."""

import copy

import torch
from torch import Tensor, nn

from isogloss.models.passes.calls import PassCalls
from isogloss.models.passes.direct import around_forward, calls_forward_itself
from isogloss.models.passes.reader import PassReader, PassRows


class HookedRootModule(nn.Module):
    """Runs passes past torch's hooks, as TransformerLens' class of this name does."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hook = nn.Embedding(20, 4), nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.hook(self.embed(tokens))

    def run_with_cache(self, tokens: Tensor) -> Tensor:
        return self.forward(tokens)


def nothing(*args: object) -> None: ...


IDS = torch.tensor([[1, 2, 3]])


def test_a_pass_that_a_method_starts_is_read_like_one_that_is_called():
    model, seen, errors = HookedRootModule(), list[PassRows](), list[Exception]()
    assert calls_forward_itself(model)
    assert not calls_forward_itself(nn.Linear(1, 1))
    with PassReader(model, ["hook"], take=seen.append, leave_out=errors.append):
        model.run_with_cache(IDS)
        model(IDS + 3)
    assert [rows.token_id.tolist() for rows in seen] == [[1, 2, 3], [4, 5, 6]]
    assert not errors
    assert "forward" not in vars(model)


def test_a_copy_made_meanwhile_computes_with_its_own_weights():
    model, begun = HookedRootModule(), list[object]()

    def begins(*args: object) -> None:
        begun.append(args)

    with around_forward(model, begins, nothing, nothing):
        other = copy.deepcopy(model)
    assert torch.equal(other(IDS), model(IDS))
    nn.init.zeros_(other.embed.weight)
    assert not other(IDS).any()
    assert not begun


def test_a_forward_that_was_replaced_before_is_put_back():
    model = HookedRootModule()
    old = model.forward

    def replaced(tokens: Tensor) -> Tensor:
        return old(tokens) + 1

    model.forward = replaced
    with around_forward(model, nothing, nothing, nothing):
        assert torch.equal(model(IDS), old(IDS) + 1)
    assert vars(model)["forward"] is replaced


def test_passes_that_end_behind_the_site_are_read_as_whole_ones_are():
    model = HookedRootModule()
    with PassCalls(model, ["embed"], stop_early=True) as calls:
        for first in (1, 2, 3):  # the first counts the calls, the others are broken off
            done = calls.run(IDS + first)
            found = done.site("embed", None)
            assert torch.equal(found.output, model.embed(IDS + first))
            assert done.counts == {"embed": 1}
    assert "forward" not in vars(model)
