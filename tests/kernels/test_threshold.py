"""encode_threshold: exact on the CPU and in the interpreter, overflow, gradients, bad input."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import Codes, Repairs, Workspace, encode_threshold, reference
from isogloss.kernels.cpu.loops.chunks import Chunk
from isogloss.kernels.cpu.threshold import firing, marked

triton = pytest.importorskip("triton")
interpreted = pytest.mark.skipif(
    not triton.knobs.runtime.interpret, reason="triton runs on a device here"
)

from isogloss.kernels.gpu.configs import EncodeConfig  # noqa: E402 (after the check above)
from isogloss.kernels.gpu.threshold import encode_threshold as by_triton  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402
from isogloss.kernels.testing.meter import metering  # noqa: E402
from isogloss.kernels.testing.properties import whole_numbers  # noqa: E402
from isogloss.kernels.testing.schedule import shuffled  # noqa: E402

SMALL = EncodeConfig(rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)
NAN, INF = float("nan"), float("inf")


def check(codes: Codes, wanted: tuple[Tensor, Tensor, Tensor], *, exact: bool = True) -> None:
    values, indices, offsets = wanted
    assert codes.offsets is not None
    torch.testing.assert_close(codes.offsets, offsets, rtol=0, atol=0, msg=lambda m: f"offsets {m}")
    assert codes.indices.tolist() == indices.tolist()
    assert codes.indices.dtype == torch.int32
    assert codes.values.dtype == torch.float32
    near = 0.0 if exact else 1e-5
    torch.testing.assert_close(codes.values, values.float(), equal_nan=True, rtol=near, atol=near)


def test_the_reference_keeps_what_lies_above_its_threshold() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [NAN, 0.0]])
    weight = torch.tensor([[1.0, 2.0], [3.0, 2.0], [0.5, -9.0]])
    limits = torch.tensor([1.0, 2.5, 0.0])
    values, indices, offsets = reference.encode_threshold(x, weight, torch.zeros(3), limits)
    assert offsets.tolist() == [0, 2, 3, 6]
    assert indices.tolist() == [1, 2, 0, 0, 1, 2]
    assert values[:3].tolist() == [3.0, 0.5, 2.0]
    assert values[3:].isnan().all()


@pytest.mark.parametrize(
    ("rows", "width", "features"),
    [(1, 1, 1), (5, 48, 130), (33, 17, 1031), (2100, 8, 3100), (0, 4, 6)],
)
def test_the_cpu_agrees_with_float64(rows: int, width: int, features: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(rows, width), torch.randn(features, width) / width**0.5
    bias, limits = torch.randn(features), torch.rand(features) + 1
    found = encode_threshold(x, weight, bias, limits)
    wanted = reference.encode_threshold(*(t.double() for t in (x, weight, bias, limits)))
    check(found, wanted, exact=False)
    assert found.features == features
    again = found.to_ragged()
    assert torch.equal(again.indices, found.indices)
    assert torch.equal(again.values, found.values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_threshold_for_all_is_that_of_each(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight, bias = (tensor.to(dtype) for tensor in whole_numbers(40, 12, 200))
    wanted = reference.encode_threshold(x.double(), weight.double(), bias.double(), 3.0)
    for threshold in (3.0, 3, torch.tensor(3.0), torch.full((200,), 3.0, dtype=dtype)):
        check(encode_threshold(x, weight, bias, threshold), wanted)
    check(encode_threshold(x.T.contiguous().T, weight, bias, 3.0), wanted)
    assert (wanted[0] > 3).all()


def test_nan_fires_and_infinite_thresholds_do_not() -> None:
    pre = torch.tensor([[1.0, NAN, INF, -INF, 0.0], [-NAN, 5.0, -1.0, 0.5, NAN]])
    limits = torch.tensor([0.0, INF, INF, 0.0, 0.0])
    chunk = Chunk(slice(0, 2), 10, 5, pre)
    found = firing(chunk, limits.view(torch.int32), marked(chunk, limits.view(torch.int32)))
    assert found.counts.tolist() == [2, 3]
    assert found.indices.tolist() == [10, 11, 10, 13, 14]
    assert found.values.isnan().tolist() == [False, True, True, False, True]
    x = torch.tensor([[1.0], [NAN], [-1.0]])
    codes = encode_threshold(x, torch.ones(3, 1), torch.zeros(3), torch.tensor([0.0, INF, 0.5]))
    assert codes.indices.tolist() == [0, 2, 0, 1, 2]
    assert codes.offsets is not None
    assert codes.offsets.tolist() == [0, 2, 5, 5]


def test_a_value_equal_to_its_threshold_does_not_fire_and_minus_zero_is_zero() -> None:
    x, weight = torch.ones(1, 1), torch.tensor([[1.0], [2.0], [0.0], [-0.0]])
    codes = encode_threshold(x, weight, torch.zeros(4), torch.tensor([1.0, 1.0, -0.0, 0.0]))
    assert codes.indices.tolist() == [1]


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(300, 40), torch.randn(25_001, 40) / 6, torch.zeros(25_001)
    before, seen = torch.get_num_threads(), list[Codes]()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            seen.append(encode_threshold(x, weight, bias, 2.0))
    finally:
        torch.set_num_threads(before)
    assert seen[0].values.numel() > 100_000
    for other in seen[1:]:
        assert torch.equal(seen[0].values, other.values)
        assert torch.equal(seen[0].indices, other.indices)


def test_scratch_memory_is_bounded_and_reused() -> None:
    torch.manual_seed(0)
    workspace = Workspace()
    x, weight, bias = torch.randn(2100, 8), torch.randn(9000, 8), torch.zeros(9000)
    first = encode_threshold(x, weight, bias, 6.0, workspace=workspace)
    held = workspace.nbytes
    assert held < 26 << 20 < 4 * 2100 * 9000
    second = encode_threshold(x, weight, bias, 6.0, workspace=workspace)
    assert workspace.nbytes == held
    assert torch.equal(first.values, second.values)


def test_gradients_match_the_reference_and_the_threshold_gets_none() -> None:
    torch.manual_seed(0)
    start = [torch.randn(7, 12), torch.randn(40, 12), torch.randn(40)]
    limits = torch.rand(40).requires_grad_()
    mine = [tensor.clone().requires_grad_() for tensor in start]
    values = encode_threshold(mine[0], mine[1], mine[2], limits).values
    grad = torch.randn(values.shape)
    values.backward(grad)
    theirs = [tensor.double().requires_grad_() for tensor in start]
    same = reference.encode_threshold(theirs[0], theirs[1], theirs[2], limits.detach().double())
    same[0].backward(grad.double())
    for name, got, want in zip(("x", "weight", "bias"), mine, theirs, strict=True):
        assert got.grad is not None
        assert want.grad is not None
        torch.testing.assert_close(
            got.grad.double(), want.grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert limits.grad is None
    with torch.no_grad():
        assert not encode_threshold(mine[0], mine[1], mine[2], limits).values.requires_grad


def test_the_reference_passes_gradcheck() -> None:
    torch.manual_seed(0)
    shapes = ((3, 4), (9, 4), (9,))
    inputs = tuple(torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in shapes)
    assert torch.autograd.gradcheck(
        lambda *tensors: reference.encode_threshold(*tensors, threshold=0.5)[0], inputs
    )


def test_what_does_not_fit_is_refused() -> None:
    x, weight, bias = torch.zeros(2, 4), torch.zeros(6, 4), torch.zeros(6)
    with pytest.raises(ShapeError, match=r"weight is \(6, 5\); \[\*, 4\] is wanted"):
        encode_threshold(x, torch.zeros(6, 5), bias, 0.0)
    with pytest.raises(ShapeError, match=r"threshold is \(5,\); \[6\] is wanted"):
        encode_threshold(x, weight, bias, torch.zeros(5))
    with pytest.raises(ShapeError, match=r"threshold is torch.int64; float32"):
        encode_threshold(x, weight, bias, torch.zeros(6, dtype=torch.int64))
    with pytest.raises(ShapeError, match="weight on cpu, threshold on meta"):
        encode_threshold(x, weight, bias, torch.zeros(6, device="meta"))
    with pytest.raises(ShapeError, match=r"x is torch.float64; float32, bfloat16 or float16"):
        encode_threshold(x.double(), weight, bias, 0.0)
    with pytest.raises(ShapeError, match=r"weight has strides \(1, 6\)"):
        encode_threshold(x, torch.zeros(4, 6).T, bias, 0.0)
    for wrong in (-0.5, NAN, torch.tensor([0.0, 0, -0.5, 0, 0, 0])):
        with pytest.raises(InvalidInput, match=r"threshold holds (-0.5|nan); .* 0 or more"):
            encode_threshold(x, weight, bias, wrong)
    with pytest.raises(InvalidInput, match="weight holds 1 values that are not finite"):
        encode_threshold(x, torch.where(torch.arange(24).view(6, 4) == 9, NAN, 1.0), bias, 0.0)
    away = [tensor.to("meta") for tensor in (x, weight, bias)]
    with pytest.raises(InvalidInput, match="no kernel for device meta"):
        encode_threshold(away[0], away[1], away[2], 0.0)


@interpreted
@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["ties", "duplicates", "negative", "hot rows", "one program", "nan, inf"]),
    rows=st.integers(0, 20),
    width=st.integers(1, 20),
    features=st.integers(1, 110),
    room=st.sampled_from([1, 4, 32]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_triton_is_exact(
    kind: str, rows: int, width: int, features: int, room: int, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    x, weight, bias = whole_numbers(rows, width, features)
    limits = torch.randint(4, 9, (features,)).float()
    if kind == "duplicates":
        weight[features // 2 :] = weight[: features - features // 2].clone()
    elif kind == "negative":
        bias -= 200
    elif kind == "hot rows":
        x[::3] = 2 * weight[seed % features] + weight[0]
        limits.fill_(0)
    elif kind == "one program":
        bias[64:] -= 200
        bias[:64] += 60
    elif kind == "nan, inf" and rows:
        x[0, 0], weight[features // 2, 0], limits[0] = NAN, INF, INF
    x, weight, bias = (tensor.to(dtype) for tensor in (x, weight, bias))
    with interpreter(), poisoned():
        codes, tiles, repaired = by_triton(x, weight, bias, limits, SMALL, room)
    wanted = reference.encode_threshold(*(t.double() for t in (x, weight, bias, limits)))
    check(codes, wanted)
    row = torch.arange(rows).repeat_interleave(wanted[2].diff())
    over = torch.zeros(-(-rows // 16) * 16, -(-features // 64), dtype=torch.int64)
    over.index_put_((row, wanted[1] // 64), torch.ones_like(row), accumulate=True)
    crowded = (over.view(-1, 16, over.shape[1]) > room).any(1)
    assert (tiles, repaired) == (crowded.numel(), int(crowded.sum()))


@interpreted
def test_hot_rows_overflow_are_counted_and_repaired() -> None:
    torch.manual_seed(0)
    x, weight, bias = whole_numbers(3, 16, 900)
    bias.fill_(-100)
    bias[10:60] = 100  # 50 in the first program, of 768 features with room for 32
    bias[800:830] = 100
    repairs = Repairs()
    assert repairs.fraction == 0
    with interpreter(), poisoned():
        codes = encode_threshold(x, weight, bias, 1.0, repairs=repairs)
        encode_threshold(x, weight, bias, INF, repairs=repairs)
    check(codes, reference.encode_threshold(x, weight, bias, 1.0))
    assert codes.values.numel() == 3 * 80
    assert (repairs.tiles, repairs.repaired) == (4, 1)
    assert repairs.fraction == 0.25


@interpreted
def test_every_schedule_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(18, 12), torch.randn(70, 12), torch.randn(70)
    bias[40:] -= 4
    limits = torch.rand(70) + 2
    seen: list[Codes] = []
    for seed in range(8):
        with interpreter(), shuffled(seed), poisoned():
            codes, tiles, repaired = by_triton(x, weight, bias, limits, SMALL, 8)
        assert tiles == 4
        assert 0 < repaired < 4
        seen.append(codes)
    check(seen[0], reference.encode_threshold(x, weight, bias, limits), exact=False)
    for other in seen[1:]:
        assert torch.equal(seen[0].values, other.values)
        assert torch.equal(seen[0].indices, other.indices)


def _offsets(codes: Codes) -> Tensor:
    assert codes.offsets is not None
    return codes.offsets


@interpreted
def test_the_dense_matrix_is_never_written() -> None:
    torch.manual_seed(0)
    rows, width, features = 32, 32, 512
    x, weight = torch.randn(rows, width), torch.randn(features, width) / width**0.5
    bias, limits = torch.zeros(features), torch.full((features,), 2.3)
    with interpreter(), metering() as traffic:
        codes, _, repaired = by_triton(x, weight, bias, limits, SMALL, 8)
    entries, programs = codes.values.numel(), features // 64
    assert 100 < entries < 400
    assert repaired == 0
    assert traffic.atomics == 0
    row = torch.arange(rows).repeat_interleave(_offsets(codes).diff())
    counts = torch.zeros(rows * programs, dtype=torch.int64)
    counts.index_add_(0, row * programs + codes.indices // 64, torch.ones_like(row))
    slots = 32 * int((-(-8 * counts // 32)).sum())  # whole sectors of slots in use, no others
    inputs = 4 * (width * (rows + features) + 2 * features)
    assert traffic.kernels["_fire_kernel"].dram == inputs + slots + 4 * rows * programs
    lists = (4 + 8) * rows * programs
    moved = traffic.kernels["_move_kernel"].dram - slots - lists
    assert 8 * entries <= moved <= 8 * entries + 64
    assert slots < 4 * rows * features / 8
    assert traffic.torch_bytes.total() < 0.3 * 4 * rows * features
    assert "_repair_kernel" not in traffic.kernels


@interpreted
def test_autograd_through_triton_matches_the_cpu() -> None:
    torch.manual_seed(0)
    start = [torch.randn(5, 9), torch.randn(40, 9), torch.randn(40)]
    grads: list[list[Tensor | None]] = []
    for on_triton in (True, False):
        x, weight, bias = (tensor.clone().requires_grad_() for tensor in start)
        if on_triton:
            with interpreter(), poisoned():
                encode_threshold(x, weight, bias, 0.5).values.square().sum().backward()
        else:
            encode_threshold(x, weight, bias, 0.5).values.square().sum().backward()
        grads.append([tensor.grad for tensor in (x, weight, bias)])
    for name, got, want in zip(("x", "weight", "bias"), *grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4, msg=lambda m, n=name: n + m)
