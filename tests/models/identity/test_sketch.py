import copy
import json
import os
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from isogloss.errors import InvalidInput, UnsupportedVersion
from isogloss.models import WeightSketch, ancestry, compare_weights, weight_sketch


def deep(layers: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(6, 6) for _ in range(layers)))


def test_what_is_stored_is_read_again() -> None:
    found = weight_sketch(deep(4))
    again = WeightSketch.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.counts == {"6x6": 4, "6": 4}
    for shape, tensors in found.tensors.items():
        for place, samples in tensors.items():
            np.testing.assert_array_equal(again.tensors[shape][place].values, samples.values)


def test_a_model_of_many_tensors_is_stored_in_ten_kilobytes_and_known_again() -> None:
    model = deep(400)
    stored = weight_sketch(model).to_dict()
    assert len(json.dumps(stored)) < 14_000
    kept = WeightSketch.from_dict(stored)
    assert compare_weights(kept, weight_sketch(model)).answer == "same"
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    assert compare_weights(kept, weight_sketch(model)).answer == "descended"


def test_the_fingerprint_of_a_recording_has_it_and_stays_below_100_kilobytes() -> None:
    config = GPT2Config(n_layer=12, n_embd=64, n_head=4, vocab_size=2000)
    found = ancestry(GPT2Model(config))
    assert len(json.dumps(found)) < 100_000
    weights = found["weights"]
    assert isinstance(weights, dict)
    assert WeightSketch.from_dict(weights).counts["64x192"] == 12


def test_what_is_no_sketch_is_refused() -> None:
    stored = weight_sketch(deep(1)).to_dict()
    with pytest.raises(UnsupportedVersion, match="version 9"):
        WeightSketch.from_dict({**stored, "version": 9})
    for wrong in ({"groups": 3}, {"groups": [{"shape": "2"}]}, {"folded": True, "groups": [{}]}):
        with pytest.raises(InvalidInput, match="not a sketch"):
            WeightSketch.from_dict({**stored, **wrong})


def test_weights_that_are_packed_or_away_are_counted() -> None:
    model = deep(2)
    model.add_module("away", nn.Linear(6, 6, device="meta"))
    found = weight_sketch(model)
    assert found.unread == 2
    assert compare_weights(weight_sketch(deep(2)), found).answer == "descended"


class Packed(nn.Module):
    """A linear map of 4-bit weights, as GPTQ and AWQ keep them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.ones(size // 8 + 1, size, dtype=torch.int32))
        self.register_buffer("scales", torch.ones(1, size))
        self.bias = nn.Parameter(torch.zeros(size))


def test_four_bit_weights_of_other_libraries_descend() -> None:
    model = deep(6)
    stored = weight_sketch(model)
    assert isinstance(model, nn.Sequential)
    packed = nn.Sequential(*(Packed(6) for _ in range(6)))
    for old, new in zip(model, packed, strict=True):
        new.get_parameter("bias").data.copy_(old.get_parameter("bias").detach())
    found = weight_sketch(packed)
    assert found.unread == 6
    assert compare_weights(stored, found).answer == "descended"


class Closed(Tensor):
    """A class of tensors that gives no single number."""

    @classmethod
    def __torch_function__(
        cls, func: object, types: object, args: tuple[object, ...] = (), kwargs: object = None
    ) -> object:
        if func is Tensor.__getitem__:
            raise NotImplementedError
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[arg-type]


def test_tensors_that_give_no_number_are_counted_as_unread() -> None:
    model = deep(2)
    stored = weight_sketch(model)
    model[1].weight = nn.Parameter(torch.randn(6, 6).as_subclass(Closed))  # type: ignore[index]
    found = weight_sketch(model)
    assert found.unread == 1
    assert compare_weights(stored, found).answer == "descended"


def test_weights_that_are_sharded_are_read_where_they_lie() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    model = deep(5)
    stored = weight_sketch(model)
    flat = copy.deepcopy(model)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
    alone = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage] (it is public by its docs)
    dist.init_process_group("gloo", rank=0, world_size=1, store=alone)
    try:
        found = weight_sketch(fully_shard(model, mesh=init_device_mesh("cpu", (1,))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of one process, and of what comes after FSDP 1
            wrapped = FullyShardedDataParallel(flat, device_id=torch.device("cpu"))
        unknown = weight_sketch(wrapped)
    finally:
        dist.destroy_process_group()
    assert compare_weights(stored, found).answer == "same"
    assert compare_weights(stored, unknown).answer == "unknown"  # and not another model


def test_quantised_modules_of_torch_are_read() -> None:
    model = deep(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to move it to another package
        quantise = torch.ao.quantization.quantize_dynamic  # pyright: ignore[reportDeprecated] (as the comment says)
        packed = quantise(model, {nn.Linear}, dtype=torch.qint8)
    found = compare_weights(weight_sketch(model), weight_sketch(packed))
    assert found.answer == "descended", found.why
