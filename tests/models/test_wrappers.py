"""From wrapped models to the module inside."""

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from isogloss.errors import InvalidInput
from isogloss.models import (
    LoadedModel,
    Site,
    capture,
    find_sites,
    resolve_sites,
    weight_sketch,
)
from isogloss.models.wrappers import unwrapped


class Envoy:
    """Answers every attribute, as nnsight's do."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        return Envoy(self._module.get_submodule(name))


def test_wrappers_give_the_module_that_they_hold(tmp_path: Path):
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        wrapped = [
            module,
            torch.compile(module, backend="eager"),
            DataParallel(module),
            DistributedDataParallel(module),
            torch.compile(DistributedDataParallel(module), backend="eager"),
            Envoy(module),
        ]
        for model in wrapped:
            assert unwrapped(model) is module
    finally:
        torch.distributed.destroy_process_group()
    with pytest.raises(InvalidInput, match=r"list is no torch\.nn\.Module"):
        unwrapped([module])


def test_a_module_of_ones_own_that_has_a_module_is_no_wrapper():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    own = Own()
    assert unwrapped(own) is own
    assert find_sites(own, ["module"]) == ("module",)


def test_sites_of_a_wrapped_model_are_those_of_the_bare_one():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    compiled = cast("nn.Module", torch.compile(module, backend="eager"))
    for pattern in ("0", "_orig_mod.0", "module.0"):
        assert find_sites(compiled, [pattern]) == ("0",)
    assert resolve_sites(compiled, ["0"]) == (Site(name="0", width=3),)
    with torch.no_grad(), capture(compiled, ["0"]) as seen:
        compiled(torch.ones(1, 4, 2))
    assert seen["0"].shape == (1, 4, 3)


def test_what_load_model_gives_stands_for_its_module_wherever_a_model_is_taken():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    compiled = cast("nn.Module", torch.compile(module, backend="eager"))
    for inside in (module, compiled):
        loaded = LoadedModel(module=inside, name="tiny")
        assert unwrapped(loaded) is module
        assert weight_sketch(loaded).to_dict() == weight_sketch(module).to_dict()
