"""The formulas and the model of the encoder, against the meter and the kernels."""

from dataclasses import replace

import pytest
import torch

triton = pytest.importorskip("triton")

if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)


from isogloss.kernels.gpu import encode as gpu_encode  # noqa: E402
from isogloss.kernels.gpu.configs import EncodeConfig  # noqa: E402
from isogloss.kernels.gpu.dealing import program_of  # noqa: E402
from isogloss.kernels.testing import properties  # noqa: E402
from isogloss.kernels.testing.budgets import (  # noqa: E402
    EncodeShape,
    candidate_bytes,
    encode_bytes,
    repair_bytes,
    select_bytes,
)
from isogloss.kernels.testing.interpreter import interpreter  # noqa: E402
from isogloss.kernels.testing.meter import metering  # noqa: E402
from isogloss.kernels.testing.selection import exact, select  # noqa: E402

SMALL = EncodeConfig(rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("crowded", [(), ((3, 0),), ((3, 0), (3, 1), (9, 0))])
def test_encode_moves_the_bytes_of_the_formula_repairs_included(
    dtype: torch.dtype, crowded: tuple[tuple[int, int], ...]
) -> None:
    """``crowded``: rows and programs, whose features all fire on the row."""
    torch.manual_seed(1)
    rows, width, features, k = 16, 32, 1024, 16
    config = replace(SMALL, kept=8)
    programs = features // 64
    x, weight = torch.randn(rows, width), torch.randn(features, width)
    x[:, -2:], weight[:, -2:] = 0, 0
    for row, program in crowded:
        x[row, program - 2] = 200
        weight[program_of(features, programs) == program, program - 2] = 1
    x, weight, bias = x.to(dtype), weight.to(dtype), torch.zeros(features)
    with interpreter(), metering() as traffic:
        _, indices, repaired = gpu_encode.encode_topk(x, weight, bias, k, config)
    model = select(x.float() @ weight.float().T, k, config)
    assert torch.equal(model.indices, indices)
    assert torch.equal(model.repaired, repaired.bool())
    hiding = model.hiding
    assert hiding.any(1).sum() >= len({row for row, _ in crowded})
    shape = EncodeShape(rows=rows, width=width, features=features, k=k, size=x.element_size())
    assert traffic.atomics == 0
    for name, wanted in (
        ("_candidates_kernel", candidate_bytes(shape, config)),
        ("_select_kernel", select_bytes(shape, config)),
    ):
        found = traffic.kernels[name]
        assert found.launches == 1
        assert (found.dram, found.l2) == (wanted.dram, wanted.l2), name
    steps = [traffic.kernels[name] for name in ("_list_kernel", "_again_kernel", "_merge_kernel")]
    assert [step.launches for step in steps] == [1, 1, 1]
    most = repair_bytes(shape, config, hiding)  # gathered numbers share some of their sectors
    assert 0.8 * most.dram <= sum(step.dram for step in steps) <= most.dram
    assert 0.8 * most.l2 <= sum(step.l2 for step in steps) <= most.l2
    every = encode_bytes(shape, config, hiding)
    assert traffic.l2 - traffic.torch_bytes.total() <= every.l2
    dense = 2 * x.element_size() * rows * features
    first = traffic.kernels["_candidates_kernel"].dram + traffic.kernels["_select_kernel"].dram
    assert first < shape.floor + dense


@pytest.mark.parametrize("kind", ["ties", "one program", "frequency", "few positive"])
def test_the_model_of_the_selection_agrees_with_the_kernels_row_by_row(kind: str) -> None:
    inputs = properties.draw(kind, 12, 16, 300, 3)
    with interpreter():
        values, indices, repaired = gpu_encode.encode_topk(
            inputs.x.float(), inputs.weight.float(), inputs.bias.float(), 9, SMALL
        )
    pre = (inputs.x @ inputs.weight.T + inputs.bias).float()
    model = select(pre, 9, SMALL)
    assert torch.equal(model.values, values)
    assert torch.equal(model.indices, indices)
    assert torch.equal(model.repaired, repaired.bool())
    assert torch.equal(exact(pre, 9)[1], indices)
