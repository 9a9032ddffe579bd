"""What a model changes in itself is put back."""

import torch
from torch import Tensor, nn

from isogloss.models.passes.model_state import ModelState


class Changing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.longest, self.kind, self.inner = 4, "sparse", nn.Linear(2, 2)
        self.table: Tensor | None = None
        self.made: str | None = None
        self.register_buffer("steps", torch.zeros(2))

    def change(self) -> None:
        self.longest, self.kind, self.inner = 9, "full", nn.Linear(2, 2)
        self.table, self.made = torch.ones(3), "yes"
        self.register_buffer("steps", torch.ones(2))


def test_plain_attributes_buffers_and_submodules_are_put_back():
    model = Changing()
    inner, steps = model.inner, model.get_buffer("steps")
    state = ModelState(model)
    for _ in range(2):
        model.change()
        state.restore()
        assert (model.longest, model.kind) == (4, "sparse")
        assert model.inner is inner
        assert model.get_buffer("steps") is steps
        assert model.table is not None  # what it made for later passes stays
        assert model.made == "yes"


def test_parameters_and_hooks_are_left_alone():
    model = Changing()
    state = ModelState(model)
    model.inner.weight = nn.Parameter(torch.zeros(2, 2))
    handle = model.register_forward_hook(lambda module, args, output: None)
    state.restore()
    assert not model.inner.weight.any()
    assert len(model._forward_hooks) == 1
    handle.remove()


def test_a_buffer_that_is_kept_elsewhere_is_left_where_it_is():
    model = Changing()
    model.register_buffer("steps", torch.zeros(2, device="meta"))
    state = ModelState(model)
    model.register_buffer("steps", torch.ones(2))
    state.restore()
    assert not model.get_buffer("steps").is_meta
