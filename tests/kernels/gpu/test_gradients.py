"""decode, gradients and training step by Triton, interpreted: values, schedules, bytes."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor

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


from isogloss.kernels.gpu import decode as gpu_decode  # noqa: E402
from isogloss.kernels.gpu import encode as gpu_encode  # noqa: E402
from isogloss.kernels.gpu import gradients as gpu_gradients  # noqa: E402
from isogloss.kernels.gpu import repair as gpu_repair  # noqa: E402
from isogloss.kernels.gpu.configs import EncodeConfig  # noqa: E402
from isogloss.kernels.gradients import feature_sums, value_slopes  # noqa: E402
from isogloss.kernels.testing import properties  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402
from isogloss.kernels.testing.meter import metering  # noqa: E402
from isogloss.kernels.testing.schedule import shuffled  # noqa: E402

SMALL = EncodeConfig(rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)


GRADIENTS = ("values", "decoder", "encoder", "encoder_bias")


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


@pytest.mark.parametrize(("ragged", "most"), [(False, 9), (True, 13)])
def test_all_gradients_take_few_launches_however_many_entries_are_split(
    ragged: bool, most: int
) -> None:
    """Counting and listing the parts of long segments made it 21, and 24 of ragged codes."""
    fixed, grad, x, decoder = hot()
    codes = fixed.to_ragged() if ragged else fixed
    with interpreter(), metering() as traffic:  # without the searches of debug mode
        gpu_gradients.sparse_gradients(codes, grad, x, decoder, None)
    assert traffic.kernels["_add_parts_kernel"].launches == 1
    assert traffic.launches <= most, (traffic.torch_calls, traffic.kernels.keys())


def test_a_feature_is_split_at_every_number_of_entries_about_a_segment() -> None:
    """Whole numbers: equal to the bit wherever the cuts fall."""
    segment = gpu_gradients.SEGMENT
    for first, second in ((segment, 1), (segment + 1, 5), (1, 2 * segment), (7, 3 * segment + 1)):
        lengths = (first, second, 3)
        rows, width = max(lengths), 5
        torch.manual_seed(first)
        held = [[f for f, length in enumerate(lengths) if row < length] for row in range(rows)]
        offsets = torch.tensor([0, *(len(each) for each in held)]).cumsum(0)
        indices = torch.tensor([f for each in held for f in each], dtype=torch.int32)
        values = torch.randint(1, 4, (len(indices),)).float()
        codes = Codes(values=values, indices=indices, features=4, offsets=offsets)
        grad, x = (torch.randint(-3, 4, (rows, width)).float() for _ in range(2))
        decoder = torch.randint(-3, 4, (4, width)).float()
        wanted = sparse_gradients(codes, grad, x, decoder)
        with interpreter(), poisoned():
            found = sparse_gradients(codes, grad, x, decoder)
            part = sparse_gradients(codes, grad, x, decoder, touched_rows_only=True)
        for name in GRADIENTS:
            assert torch.equal(getattr(found, name), getattr(wanted, name)), (name, lengths)
        assert torch.equal(part.encoder, wanted.encoder[:3]), lengths


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
    # a row's program knows nothing of other rows: 9 of them are as good as 70
    row = Codes(values=codes.values[:9], indices=codes.indices[:9], features=30)
    bias = torch.ones(12)

    def run() -> list[Tensor]:
        found = sparse_gradients(few, grad[:70], x[:70], decoder)
        left = decode_loss(row, decoder, x[:9], bias)
        return [
            *(getattr(found, name) for name in GRADIENTS),
            *gpu_encode.encode_topk(*encoded, 9, replace(SMALL, kept=4)),
            decode(row, decoder),
            left.residual,
            left.squared_norms,
            value_slopes(row, grad[:9], decoder),
            *feature_sums(few, x[:70]),
        ]

    with interpreter(), metering() as traffic:
        wanted = run()
    assert wanted[6].any()  # a row is repaired
    modules = (gpu_decode, gpu_encode, gpu_repair, gpu_gradients)
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
