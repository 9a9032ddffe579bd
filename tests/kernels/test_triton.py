# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportArgumentType=false
# (one kernel is written here: triton compiles it from the arguments it meets)
"""The Triton kernels, run by the interpreter: against float64, poisoned, shuffled, metered."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.kernels import (
    AdamMoments,
    Codes,
    StepSettings,
    Weights,
    decode,
    decode_loss,
    encode_topk,
    reference,
    sparse_gradients,
    train_step_topk,
)
from isogloss.kernels.arguments import checks

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)

import triton.language as tl  # noqa: E402 (after the check above)

from isogloss.kernels.gpu import decode as gpu_decode  # noqa: E402
from isogloss.kernels.gpu import encode as gpu_encode  # noqa: E402
from isogloss.kernels.gpu import gradients as gpu_gradients  # noqa: E402
from isogloss.kernels.gpu.configs import EncodeConfig, fitted  # noqa: E402
from isogloss.kernels.gpu.decode import decode as unchecked  # noqa: E402
from isogloss.kernels.gradients import feature_sums, value_slopes  # noqa: E402
from isogloss.kernels.testing import properties  # noqa: E402
from isogloss.kernels.testing.budgets import (  # noqa: E402
    EncodeShape,
    candidate_bytes,
    encode_bytes,
    repair_bytes,
    select_bytes,
)
from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402
from isogloss.kernels.testing.meter import metering  # noqa: E402
from isogloss.kernels.testing.schedule import shuffled  # noqa: E402
from isogloss.kernels.testing.selection import exact, select  # noqa: E402

SMALL = EncodeConfig(
    rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2, repair_rows=16
)
GRADIENTS = ("values", "decoder", "encoder", "encoder_bias")


def by_triton(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    with interpreter(), poisoned():
        return gpu_encode.encode_topk(x, weight, bias, k, SMALL)


def draw(kind: str, rows: int, width: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    inputs = properties.draw(kind, rows, width, features, 0)
    return inputs.x.float(), inputs.weight.float(), inputs.bias.float()


def test_crowded_programs_are_repaired_and_others_are_not() -> None:
    torch.manual_seed(0)
    x, weight, bias = draw("one program", 3, 8, 256)  # 4 programs of 64 features
    _, indices, repaired = by_triton(x, weight, bias, 12)
    order = reference.encode_topk(x, weight, bias, 12)[1]
    assert torch.equal(indices.long(), order)
    assert repaired.tolist() == [1, 1, 1]
    spread = torch.full((256,), -100.0)
    spread[:12] = 100.0  # 3 winners a program, of 4 kept
    _, indices, repaired = by_triton(x, weight, spread, 12)
    assert torch.equal(indices.long(), reference.encode_topk(x, weight, spread, 12)[1])
    assert repaired.tolist() == [0, 0, 0]


def test_a_dictionary_ordered_by_frequency_does_not_crowd_a_program() -> None:
    """Winners among the first features, as in Matryoshka prefixes: strided programs share them."""
    torch.manual_seed(0)
    x, weight = torch.randn(16, 16), torch.randn(512, 16) / 4
    bias = torch.where(torch.arange(512) < 64, 3.0, -3.0)
    _, indices, repaired = by_triton(x, weight, bias, 8)
    assert (indices < 64).float().mean() > 0.9
    assert repaired.sum() <= 2


def test_real_numbers_agree_with_float64_to_rounding() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(20, 50), torch.randn(333, 50), torch.randn(333)
    values, indices, _ = by_triton(x, weight, bias, 9)
    wanted, order = reference.encode_topk(x.double(), weight.double(), bias.double(), 9)
    torch.testing.assert_close(values, wanted.float(), rtol=1e-5, atol=1e-5)
    assert (indices.long() == order).float().mean() > 0.99


def test_large_k_and_wide_lists_are_exact() -> None:
    torch.manual_seed(0)
    x, weight, bias = draw("ties", 1, 5, 90)
    _, indices, _ = by_triton(x, weight, bias, 50)
    assert torch.equal(indices.long(), reference.encode_topk(x, weight, bias, 50)[1])


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "width", "features", "k"), [(1, 1, 1, 1), (6, 48, 30, 7)])
def test_decode_and_gradients_match_the_cpu_and_float64(
    ragged: bool, dtype: torch.dtype, rows: int, width: int, features: int, k: int
) -> None:
    torch.manual_seed(0)
    x, encoder, bias = torch.randn(rows, width), torch.randn(features, width), torch.ones(features)
    grad, decoder = torch.randn(rows, width).to(dtype), torch.randn(features, width).to(dtype)
    fixed = encode_topk(x, encoder, bias, k)
    codes = fixed.to_ragged() if ragged else fixed
    with interpreter(), poisoned():
        out = decode(codes, decoder, grad[0])
        left = decode_loss(codes, decoder, x, grad[0])
        found = sparse_gradients(codes, grad, x.to(dtype), decoder)
        part = sparse_gradients(codes, grad, x.to(dtype), decoder, touched_rows_only=True)
    wide = (fixed.values.double(), fixed.indices)
    want = reference.decode(*wide, decoder.double(), grad[0].double())
    torch.testing.assert_close(out, want.to(dtype))
    torch.testing.assert_close(left.residual, (want - x).float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(left.squared_norms, (want - x).square().sum(1).float())
    wanted = reference.sparse_gradients(
        *wide, grad.double(), x.to(dtype).double(), decoder.double()
    )
    for name, tensor in zip(GRADIENTS, wanted, strict=True):
        if name == "values" and ragged:
            continue
        torch.testing.assert_close(
            getattr(found, name), tensor.float(), rtol=1e-5, atol=1e-5, msg=lambda m, n=name: n + m
        )
    assert part.features is not None
    assert torch.equal(part.encoder, found.encoder[part.features])
    assert torch.equal(part.decoder, found.decoder[part.features])


def hot() -> tuple[Codes, Tensor, Tensor, Tensor]:
    """A feature that fires on every one of 200 rows, so that its entries are split."""
    torch.manual_seed(0)
    x, encoder, bias = torch.randn(200, 12), torch.randn(30, 12), torch.zeros(30)
    bias[7] = 50.0
    return encode_topk(x, encoder, bias, 3), torch.randn(200, 12), x, torch.randn(30, 12)


def test_long_segments_are_split_and_added_in_order() -> None:
    codes, grad, x, decoder = hot()
    with interpreter(), poisoned():
        found = sparse_gradients(codes, grad, x, decoder)
        part = sparse_gradients(codes, grad, x, decoder, touched_rows_only=True)
    wanted = reference.sparse_gradients(
        codes.values.double(), codes.indices, grad.double(), x.double(), decoder.double()
    )
    for name, tensor in zip(GRADIENTS, wanted, strict=True):
        torch.testing.assert_close(
            getattr(found, name), tensor.float(), rtol=2e-5, atol=1e-4, msg=lambda m, n=name: n + m
        )
    assert part.features is not None
    assert torch.equal(part.decoder, found.decoder[part.features])


def test_autograd_through_the_kernels_matches_the_cpu() -> None:
    torch.manual_seed(0)
    start = [torch.randn(5, 9), torch.randn(40, 9), torch.randn(40), torch.randn(40, 9)]
    grads = []
    for on_triton in (True, False):
        x, encoder, bias, decoder = (tensor.clone().requires_grad_() for tensor in start)
        if on_triton:
            with interpreter():
                decode(encode_topk(x, encoder, bias, 4), decoder).square().sum().backward()
        else:
            decode(encode_topk(x, encoder, bias, 4), decoder).square().sum().backward()
        grads.append([tensor.grad for tensor in (x, encoder, bias, decoder)])
    for name, got, want in zip(("x", "encoder", "bias", "decoder"), *grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4, msg=lambda m, n=name: n + m)


def test_the_training_step_on_triton_matches_the_fused_one() -> None:
    torch.manual_seed(0)
    x, rows = torch.randn(2, 12, 8), torch.randn(40, 8)
    dead = torch.arange(40) < 6
    chosen = StepSettings(k=3, learning_rate=1e-3, variance=8.0, aux_k=4)
    ends = []
    for on_triton in (True, False):
        weights = Weights(
            encoder=rows.clone(),
            encoder_bias=torch.zeros(40),
            decoder=rows / rows.norm(dim=1, keepdim=True),
            decoder_bias=torch.zeros(8),
        )
        moments = AdamMoments.zeros_like(weights)
        results = []
        for n in range(2):
            with interpreter() if on_triton else nullcontext():
                results.append(
                    train_step_topk(x[n], weights, moments, chosen, step=n + 1, dead=dead)
                )
        ends.append((weights, results))
    for one, two in zip(ends[0][1], ends[1][1], strict=True):
        assert one.loss == pytest.approx(two.loss, rel=1e-5)
        assert one.aux_loss == pytest.approx(two.aux_loss, rel=1e-5)
        assert torch.equal(one.fired, two.fired)
    for name, tensor in ends[1][0].named().items():
        torch.testing.assert_close(ends[0][0].named()[name], tensor, rtol=1e-5, atol=2e-6)


def test_every_schedule_gives_the_same_bits_for_every_kernel() -> None:
    codes, grad, x, decoder = hot()
    few = Codes(values=codes.values[:70], indices=codes.indices[:70], features=30)
    inputs = properties.draw("one program", 3, 12, 70, 0)
    encoded = inputs.x.float(), inputs.weight.float(), inputs.bias.float()
    bias = torch.ones(12)

    def run() -> list[Tensor]:
        found = sparse_gradients(few, grad[:70], x[:70], decoder)
        left = decode_loss(few, decoder, x[:70], bias)
        return [
            *(getattr(found, name) for name in GRADIENTS),
            *gpu_encode.encode_topk(*encoded, 9, replace(SMALL, kept=4)),
            decode(few, decoder),
            left.residual,
            left.squared_norms,
            value_slopes(few, grad[:70], decoder),
            *feature_sums(few, x[:70]),
        ]

    with interpreter(), metering() as traffic:
        wanted = run()
    assert wanted[6].any()  # a row is repaired
    modules = (gpu_decode, gpu_encode, gpu_gradients)
    every = {n for module in modules for n in vars(module) if n.endswith("_kernel")}
    assert {name for name, kernel in traffic.kernels.items() if kernel.launches} == every
    for seed in range(8):
        with interpreter(), shuffled(seed):
            found = run()
        assert all(torch.equal(one, other) for one, other in zip(wanted, found, strict=True))


def test_traffic_stays_within_its_budget_and_no_kernel_uses_atomics() -> None:
    torch.manual_seed(0)
    rows, width, features, k = 32, 128, 512, 8
    x, encoder = torch.randn(rows, width), torch.randn(features, width) / width**0.5
    codes = encode_topk(x, encoder, torch.zeros(features), k)
    grad, decoder = torch.randn(rows, width), torch.randn(features, width)
    checks.finite(weight=decoder)  # once for each version of it, not at each call
    with interpreter(), metering() as backward:
        sparse_gradients(codes, grad, x, decoder)
    used = codes.indices.unique().numel()
    floor = 4 * (2 * rows * width + used * width + 3 * rows * k + 2 * features * width + features)
    assert backward.atomics == 0
    assert sum(kernel.dram for kernel in backward.kernels.values()) <= 1.02 * floor
    with interpreter(), metering() as again:
        sparse_gradients(codes, grad, x, decoder)
    assert (again.dram, again.l2) == (backward.dram, backward.l2)
    with interpreter(), metering() as forward:
        decode(codes, decoder)
    kernel = forward.kernels["_decode_kernel"]
    assert kernel.launches == 1
    assert kernel.dram == 4 * (used * width + 2 * rows * k + rows * width)
    assert kernel.by_argument["weight_ptr"] == 4 * used * width


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
        weight[program::programs, program - 2] = 1
    x, weight, bias = x.to(dtype), weight.to(dtype), torch.zeros(features)
    with interpreter(), metering() as traffic:
        _, indices, repaired = gpu_encode.encode_topk(x, weight, bias, k, config)
    model = select(x.float() @ weight.float().T, k, config)
    assert torch.equal(model.indices, indices)
    assert torch.equal(model.repaired, repaired.bool())
    hiding = [int(n) for n in model.hiding.sum(1) if n]
    assert len(hiding) >= len({row for row, _ in crowded})
    shape = EncodeShape(rows=rows, width=width, features=features, k=k, size=x.element_size())
    assert traffic.atomics == 0
    for name, wanted in (
        ("_candidates_kernel", candidate_bytes(shape, config)),
        ("_select_kernel", select_bytes(shape, config)),
        ("_repair_kernel", repair_bytes(shape, config, hiding)),
    ):
        found = traffic.kernels[name]
        assert found.launches == 1
        assert found.l2 == wanted.l2, name
        if name == "_repair_kernel" and hiding not in ([], [1]):
            assert found.dram <= wanted.dram  # programs of neighbours share sectors
        else:
            assert found.dram == wanted.dram, name
    assert encode_bytes(shape, config, hiding).l2 == traffic.l2 - traffic.torch_bytes.total()
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


def test_the_meter_refuses_an_access_outside_of_every_argument() -> None:
    codes, _, _, decoder = hot()
    wrong = Codes(values=codes.values[:1], indices=codes.indices[:1] + 10_000, features=20_000)
    refused = pytest.raises(triton.runtime.errors.InterpreterError, match="outside of every tensor")
    with refused, interpreter(), metering():
        unchecked(wrong, decoder, None)


def test_poison_shows_what_a_kernel_leaves_unwritten() -> None:
    with poisoned():
        assert torch.empty(3).isnan().all()
        assert torch.empty_like(torch.ones(2, dtype=torch.int32)).tolist() == [-(2**31)] * 2
    assert torch.empty is not None


def test_tiles_fit_k_and_the_number_of_features() -> None:
    half = EncodeConfig(
        rows=128, columns=128, tiles=6, kept=8, depth=64, warps=8, stages=3, repair_rows=128
    )
    assert (fitted(half, 32, 24_576).tiles, fitted(half, 32, 24_576).kept) == (6, 8)
    assert (fitted(half, 16, 2_048).tiles, fitted(half, 16, 2_048).kept) == (1, 8)
    assert (fitted(half, 512, 24_576).tiles, fitted(half, 512, 24_576).kept) == (1, 16)
    assert fitted(half, 64, 64).kept == 128
    with pytest.raises(InvalidInput, match="kept is 3; a power of two is wanted"):
        EncodeConfig(
            rows=16, columns=32, tiles=2, kept=3, depth=16, warps=4, stages=2, repair_rows=16
        )
    with pytest.raises(InvalidInput, match="places are kept in 15 bits"):
        EncodeConfig(
            rows=16, columns=1024, tiles=64, kept=4, depth=16, warps=4, stages=2, repair_rows=16
        )


@triton.jit
def _topk_kernel(source_ptr, out_ptr, SIZE: tl.constexpr, K: tl.constexpr):
    found = tl.topk(tl.load(source_ptr + tl.arange(0, SIZE)), K)
    tl.store(out_ptr + tl.arange(0, K), found)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_the_interpreters_topk_is_that_of_the_language(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for size, k in ((16, 16), (64, 16), (32, 1), (128, 64)):
        source = torch.randint(-9, 9, (size,), dtype=dtype)
        ours, theirs = torch.empty(2, k, dtype=dtype)
        with interpreter():
            _topk_kernel[(1,)](source, ours, size, k)
        _topk_kernel[(1,)](source, theirs, size, k)
        assert torch.equal(ours, theirs)
        assert torch.equal(ours, source.sort(descending=True).values[:k])


@triton.jit
def _narrow_kernel(source_ptr, out_ptr, SIZE: tl.constexpr):
    lane = tl.arange(0, SIZE)
    tl.store(out_ptr + lane, tl.load(source_ptr + lane).to(tl.bfloat16))


def test_the_interpreter_rounds_to_bfloat16_as_torch_and_devices_do() -> None:
    torch.manual_seed(0)
    source = torch.randn(64) * 10 ** torch.linspace(-38, 38, 64)
    source[:6] = torch.tensor([539.0, 541.0, 1e-40, float("inf"), -float("inf"), float("nan")])
    out = torch.empty(64, dtype=torch.bfloat16)
    with interpreter():
        _narrow_kernel[(1,)](source, out, 64)
    torch.testing.assert_close(out, source.bfloat16(), rtol=0, atol=0, equal_nan=True)
