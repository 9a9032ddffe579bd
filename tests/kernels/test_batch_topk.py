"""encode_batch_topk: exact on the CPU and in the interpreter, ties, repairs, gradients."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import (
    BatchCodes,
    Codes,
    Repairs,
    Workspace,
    encode_batch_topk,
    encode_threshold,
    reference,
)
from isogloss.kernels.cpu import batch_topk as on_cpu
from isogloss.kernels.cpu.loops.listed import BestListed

triton = pytest.importorskip("triton")
interpreted = pytest.mark.skipif(
    not triton.knobs.runtime.interpret, reason="triton runs on a device here"
)

from isogloss.kernels.gpu.batch_topk import DIGITS, roomy, select_radix  # noqa: E402 (after the check above)
from isogloss.kernels.gpu.batch_topk import encode_batch_topk as by_triton  # noqa: E402
from isogloss.kernels.gpu.configs import EncodeConfig, table_config  # noqa: E402
from isogloss.kernels.gpu.dealing import dealing, program_of  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402
from isogloss.kernels.testing.meter import metering  # noqa: E402
from isogloss.kernels.testing.properties import whole_numbers  # noqa: E402
from isogloss.kernels.testing.schedule import shuffled  # noqa: E402

SMALL = EncodeConfig(rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)
NAN, INF = float("nan"), float("inf")


def check(
    codes: Codes,
    threshold: Tensor,
    wanted: tuple[Tensor, Tensor, Tensor, Tensor],
    *,
    exact: bool = True,
) -> None:
    values, indices, offsets, last = wanted
    assert codes.offsets is not None
    assert codes.offsets.tolist() == offsets.tolist()
    assert codes.indices.tolist() == indices.tolist()
    near = 0.0 if exact else 1e-5
    torch.testing.assert_close(codes.values, values.float(), equal_nan=True, rtol=near, atol=near)
    torch.testing.assert_close(threshold, last.float(), equal_nan=True, rtol=near, atol=near)


def test_the_reference_chooses_over_the_whole_batch() -> None:
    x = torch.eye(2)
    weight = torch.tensor([[9.0, 1.0], [8.0, 7.0], [7.0, -1.0], [0.5, 7.0]])
    found = reference.encode_batch_topk(x, weight, torch.zeros(4), 2)
    assert found[2].tolist() == [0, 3, 4]
    assert found[1].tolist() == [0, 1, 2, 1]  # row 1 has 7 twice: the lower feature
    assert found[3] == 7
    few = reference.encode_batch_topk(x, weight, torch.full((4,), -8.0), 2)
    assert (few[1].tolist(), few[3]) == ([0], 1)
    none = reference.encode_batch_topk(x, weight, torch.full((4,), -9.0), 2)
    assert (none[1].tolist(), none[2].tolist(), none[3]) == ([], [0, 0, 0], 0)


@pytest.mark.parametrize(
    ("rows", "width", "features", "k"),
    [(1, 1, 1, 1), (5, 48, 130, 3), (33, 17, 1031, 9), (2100, 8, 3100, 4), (7, 4, 30, 30)],
)
def test_the_cpu_agrees_with_float64(rows: int, width: int, features: int, k: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(rows, width), torch.randn(features, width) / width**0.5
    bias = torch.randn(features)
    found = encode_batch_topk(x, weight, bias, k)
    wanted = reference.encode_batch_topk(x.double(), weight.double(), bias.double(), k)
    check(found.codes, found.threshold, wanted, exact=False)
    assert found.threshold.dtype == torch.float32
    again = found.codes.to_ragged()
    assert torch.equal(again.indices, found.codes.indices)


@pytest.mark.parametrize(
    ("dtype", "features", "k"),
    [
        (torch.float32, 7000, 2),
        (torch.float32, 7000, 1000),
        (torch.bfloat16, 40, 3),
        (torch.float16, 40, 3),
    ],
)
def test_ties_go_to_the_first_row_then_the_first_feature(
    dtype: torch.dtype, features: int, k: int
) -> None:
    torch.manual_seed(0)
    x, weight, bias = (tensor.to(dtype) for tensor in whole_numbers(1100, 6, features))
    found = encode_batch_topk(x, weight, bias, k)
    wanted = reference.encode_batch_topk(x.float(), weight.float(), bias.float(), k)
    check(found.codes, found.threshold, wanted)


def test_equal_values_everywhere_are_cut_to_the_first() -> None:
    codes = encode_batch_topk(torch.ones(2100, 1), torch.ones(3100, 1), torch.zeros(3100), 5).codes
    assert codes.offsets is not None
    assert codes.offsets.diff().tolist() == [3100] * 3 + [1200] + [0] * 2096
    assert codes.indices[-1200:].tolist() == list(range(1200))


def test_rows_share_the_budget_unevenly_and_the_threshold_ends_it() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 16) * torch.linspace(0.1, 3, 64)[:, None]
    x[-1] *= 5
    weight, bias = torch.randn(300, 16), torch.zeros(300)
    found = encode_batch_topk(x, weight, bias, 8)
    assert found.codes.values.numel() == 8 * 64
    assert found.threshold == found.codes.values.min()
    assert found.codes.offsets is not None
    counts = found.codes.offsets.diff()
    assert counts[0] == 0
    assert counts[-1] > 30
    above = encode_threshold(x, weight, bias, found.threshold)
    assert above.values.numel() == 8 * 64 - 1  # all but the smallest, which is the threshold
    below = encode_threshold(x, weight, bias, found.threshold * 0.999999)
    assert torch.equal(below.indices, found.codes.indices)


@pytest.mark.parametrize("share", [1e-6, 0.5, 0.9, 1.0, 1.1, 1e9])
def test_a_hint_changes_no_bit_whether_it_is_low_right_or_too_high(share: float) -> None:
    generator = torch.Generator().manual_seed(3)
    x, weight = torch.randn(70, 24, generator=generator), torch.randn(300, 24, generator=generator)
    inputs = (x, weight, torch.zeros(300))
    plain, last = on_cpu.encode_batch_topk(*inputs, 4, Workspace())
    hint = share * float(last)
    found, again = on_cpu.encode_batch_topk(*inputs, 4, Workspace(), None, hint)
    assert torch.equal(again, last)
    for one, other in ((found.values, plain.values), (found.indices, plain.indices)):
        assert torch.equal(one, other)
    scale = torch.linspace(0.5, 2.0, 300)
    scaled, _ = on_cpu.encode_batch_topk(*inputs, 4, Workspace(), scale, hint)
    direct, _ = on_cpu.encode_batch_topk(x, weight * scale[:, None], inputs[2], 4, Workspace())
    assert torch.equal(scaled.indices, direct.indices)
    assert torch.equal(scaled.values, direct.values)


@pytest.mark.parametrize("share", [0.0, 0.5, 1e9])
def test_a_list_takes_its_best_once_however_often_the_batch_is_chosen(share: float) -> None:
    generator = torch.Generator().manual_seed(3)
    x, weight = torch.randn(70, 24, generator=generator), torch.randn(300, 24, generator=generator)
    bias, features = torch.zeros(300), torch.arange(0, 300, 7, dtype=torch.int32)
    _, last = on_cpu.encode_batch_topk(x, weight, bias, 4, Workspace())
    listed = BestListed(features, features, torch.zeros(70, 5), torch.zeros(70, 5).int())
    hint = share * float(last)
    on_cpu.encode_batch_topk(x, weight, bias, 4, Workspace(), None, hint, listed=listed)
    pre = torch.relu(x @ weight[features.long()].T)
    wanted, places = pre.sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(listed.values, wanted[:, :5])
    fires = wanted[:, :5] > 0
    assert torch.equal(listed.indices[fires], features[places[:, :5]][fires])


def test_nan_shows_before_every_number_and_infinity_before_the_rest() -> None:
    x = torch.tensor([[1.0], [NAN], [INF], [2.0]])
    weight = torch.tensor([[1.0], [0.5], [-1.0]])
    found = encode_batch_topk(x, weight, torch.zeros(3), 1)
    wanted = reference.encode_batch_topk(x, weight, torch.zeros(3), 1)
    check(found.codes, found.threshold, wanted)
    assert found.codes.values.isnan().sum() == 3
    assert found.threshold == INF
    every = encode_batch_topk(x[1:2], weight, torch.zeros(3), 2)
    assert every.threshold.isnan()
    assert every.codes.indices.tolist() == [0, 1]


def test_fewer_positives_than_wanted_are_all_chosen() -> None:
    x, weight = torch.ones(3, 1), torch.tensor([[1.0], [-1.0], [0.0], [0.25]])
    found = encode_batch_topk(x, weight, torch.zeros(4), 3)
    assert found.codes.indices.tolist() == [0, 3] * 3
    assert found.threshold == 0.25
    none = encode_batch_topk(x, -weight.abs(), torch.zeros(4), 3)
    assert none.codes.values.numel() == 0
    assert none.threshold == 0
    empty = encode_batch_topk(x[:0], weight, torch.zeros(4), 3)
    assert (empty.codes.rows, float(empty.threshold)) == (0, 0.0)


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(300, 40), torch.randn(25_001, 40) / 6, torch.zeros(25_001)
    before, seen = torch.get_num_threads(), list[BatchCodes]()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            seen.append(encode_batch_topk(x, weight, bias, 20))
    finally:
        torch.set_num_threads(before)
    for other in seen[1:]:
        assert torch.equal(seen[0].codes.values, other.codes.values)
        assert torch.equal(seen[0].codes.indices, other.codes.indices)
        assert torch.equal(seen[0].threshold, other.threshold)


def test_scratch_memory_is_bounded() -> None:
    workspace = Workspace()
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2100, 8), torch.randn(9000, 8), torch.zeros(9000)
    encode_batch_topk(x, weight, bias, 4, workspace=workspace)
    assert 0 < workspace.nbytes < 26 << 20 < 4 * 2100 * 9000


def test_gradients_match_the_reference() -> None:
    torch.manual_seed(0)
    start = [torch.randn(7, 12), torch.randn(40, 12), torch.randn(40)]
    mine = [tensor.clone().requires_grad_() for tensor in start]
    found = encode_batch_topk(mine[0], mine[1], mine[2], 6)
    grad = torch.randn(found.codes.values.shape)
    found.codes.values.backward(grad)
    assert not found.threshold.requires_grad
    theirs = [tensor.double().requires_grad_() for tensor in start]
    reference.encode_batch_topk(theirs[0], theirs[1], theirs[2], 6)[0].backward(grad.double())
    for name, got, want in zip(("x", "weight", "bias"), mine, theirs, strict=True):
        assert got.grad is not None
        assert want.grad is not None
        torch.testing.assert_close(
            got.grad.double(), want.grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_the_reference_passes_gradcheck() -> None:
    torch.manual_seed(0)
    shapes = ((3, 4), (9, 4), (9,))
    inputs = tuple(torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in shapes)
    assert torch.autograd.gradcheck(
        lambda *tensors: reference.encode_batch_topk(*tensors, k=2)[0], inputs
    )


def test_what_does_not_fit_is_refused() -> None:
    x, weight, bias = torch.zeros(2, 4), torch.zeros(6, 4), torch.zeros(6)
    for k in (0, 7):
        with pytest.raises(InvalidInput, match=rf"k is {k}; it must be in \[1, 6\]"):
            encode_batch_topk(x, weight, bias, k)
    with pytest.raises(ShapeError, match=r"weight is \(6, 5\); \[\*, 4\] is wanted"):
        encode_batch_topk(x, torch.zeros(6, 5), bias, 2)
    with pytest.raises(InvalidInput, match="bias holds 6 values that are not finite"):
        encode_batch_topk(x, weight, bias + INF, 2)
    away = [tensor.to("meta") for tensor in (x, weight, bias)]
    with pytest.raises(InvalidInput, match="no kernel for device meta"):
        encode_batch_topk(away[0], away[1], away[2], 2)
    fixed = Codes(values=x, indices=torch.zeros(2, 4, dtype=torch.int32), features=6)
    with pytest.raises(InvalidInput, match="codes have k entries a row; ragged"):
        BatchCodes(codes=fixed, threshold=torch.zeros(()))
    with pytest.raises(ShapeError, match=r"threshold is \(1,\); a tensor without dimensions"):
        BatchCodes(codes=fixed.to_ragged(), threshold=torch.zeros(1))


@interpreted
@settings(max_examples=14, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(
        ["ties", "duplicates", "negative", "few positive", "hot rows", "one program", "nan, inf"]
    ),
    rows=st.integers(0, 20),
    width=st.integers(1, 20),
    features=st.integers(1, 110),
    k=st.integers(1, 12),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_triton_is_exact(
    kind: str, rows: int, width: int, features: int, k: int, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    k = min(k, features)
    x, weight, bias = whole_numbers(rows, width, features)
    if kind == "duplicates":
        weight[features // 2 :] = weight[: features - features // 2].clone()
    elif kind == "negative":
        bias -= 200
    elif kind == "few positive":
        bias[2:] -= 200
    elif kind == "hot rows":
        x[::3] = 2 * weight[seed % features] + weight[0]
    elif kind == "one program":  # the features of one program of two
        bias[program_of(features, -(-features // 64)) == 0] += 60
    elif kind == "nan, inf" and rows:
        x[0, 0], weight[features // 2, 0] = NAN, INF
    x, weight, bias = (tensor.to(dtype) for tensor in (x, weight, bias))
    with interpreter(), poisoned():
        codes, threshold, _, _ = by_triton(x, weight, bias, k, SMALL)
    wanted = reference.encode_batch_topk(x.double(), weight.double(), bias.double(), k)
    check(codes, threshold, wanted)


@interpreted
def test_programs_that_may_hide_entries_are_repaired_and_others_are_not() -> None:
    torch.manual_seed(0)
    x, weight, _ = whole_numbers(40, 8, 256)  # 3 blocks of rows, 4 programs of 64 features
    spread = torch.full((256,), -100.0)
    spread[:12] = 100  # 3 in each program, of 4 kept
    with interpreter(), poisoned():
        even = by_triton(x, weight, spread, 12, SMALL)
        spread[program_of(256, 4) == 0] = 100  # 64 in the first program
        crowded = by_triton(x, weight, spread, 12, SMALL)
    assert even[2:] == (12, 0)
    assert crowded[2:] == (12, 3)
    spread[program_of(256, 4) == 0] = -100
    spread[:12] = 100
    check(*even[:2], reference.encode_batch_topk(x, weight, spread, 12))
    spread[program_of(256, 4) == 0] = 100
    check(*crowded[:2], reference.encode_batch_topk(x, weight, spread, 12))


@interpreted
def test_the_shipped_tiles_repair_a_row_that_takes_the_whole_budget() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(16, 16) / 100, torch.rand(400, 16), torch.zeros(400)
    x[1] = 4  # takes 320 entries, 45 in each of 7 programs that keep 32
    repairs = Repairs()
    with interpreter(), poisoned():
        found = encode_batch_topk(x, weight, bias, 20, repairs=repairs)
    check(
        found.codes,
        found.threshold,
        reference.encode_batch_topk(x.double(), weight.double(), bias.double(), 20),
        exact=False,
    )
    assert repairs.repaired > 0


@pytest.mark.parametrize(("spread", "most"), [(0.0, 0.0), (0.05, 0.01), (0.1, 0.08)])
def test_rows_of_unequal_norm_make_few_tiles_hide_entries(spread: float, most: float) -> None:
    """Gaussian pre-activations; the norms' logarithms have a standard deviation of ``spread``."""
    torch.manual_seed(0)
    rows, features, k = 256, 24_576, 32
    tile = roomy(table_config("sm90", torch.bfloat16), k, features)
    pre = torch.randn(rows, features) * torch.randn(rows, 1).mul(spread).exp()
    last = pre.flatten().kthvalue(rows * (features - k) + 1).values
    programs = -(-features // (tile.columns * tile.tiles))
    counts = (pre >= last)[:, dealing(features, programs)].sum(1)
    hiding = (counts >= tile.kept).view(rows // tile.rows, tile.rows, programs).any(1)
    assert hiding.double().mean() <= most
    assert (pre >= last).sum(1).double().std() >= 300 * spread


@interpreted
@pytest.mark.parametrize("size", [1, 70, 20_000])
def test_the_radix_select_finds_the_wanted_key(size: int) -> None:
    torch.manual_seed(0)
    keys = torch.randn(size).view(torch.int32)
    keys[::7] = keys[0].clamp(min=5)
    descending = keys[keys > 0].sort(descending=True).values
    with interpreter(), poisoned():
        for wanted in {1, 2, 35, 9000} & set(range(1, len(descending) + 1)):
            last, room = select_radix(keys, wanted, DIGITS).tolist()
            assert last == descending[wanted - 1]
            assert room == wanted - int((descending > last).sum())
            bound = int(select_radix(keys, wanted, DIGITS[:2])[0])
            assert bound == last >> 9 << 9
        assert int(select_radix(keys, len(descending) + 1, DIGITS)[0]) == 0


@interpreted
def test_every_schedule_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(18, 12), torch.randn(70, 12), torch.randn(70)
    bias[::2] += 3
    seen: list[tuple[Codes, Tensor]] = []
    for seed in range(8):
        with interpreter(), shuffled(seed), poisoned():
            codes, threshold, tiles, repaired = by_triton(x, weight, bias, 4, SMALL)
        assert tiles == 4
        assert 0 < repaired < 4
        seen.append((codes, threshold))
    check(*seen[0], reference.encode_batch_topk(x, weight, bias, 4), exact=False)
    for codes, threshold in seen[1:]:
        assert torch.equal(seen[0][0].values, codes.values)
        assert torch.equal(seen[0][0].indices, codes.indices)
        assert torch.equal(seen[0][1], threshold)


@interpreted
def test_the_dense_matrix_is_never_written() -> None:
    torch.manual_seed(0)
    rows, width, features, k = 32, 32, 512, 4
    x, weight, bias = torch.randn(rows, width), torch.randn(features, width), torch.zeros(features)
    with interpreter(), metering() as traffic:
        codes, _, tiles, repaired = by_triton(x, weight, bias, k, SMALL)
    assert codes.values.numel() == k * rows
    assert traffic.atomics == 0
    dense, candidates = 4 * rows * features, rows * (features // 64) * SMALL.kept
    first = traffic.kernels["_candidates_kernel"].by_argument
    assert first["keys_ptr"] + first["places_ptr"] == 6 * candidates < dense / 8
    for name in ("_histogram_kernel", "_tally_kernel"):
        assert traffic.kernels[name].by_argument["keys_ptr"] <= 6 * 4 * candidates
    assert traffic.kernels["_tally_kernel"].by_argument["keys_ptr"] == 4 * candidates
    gather = traffic.kernels["_gather_kernel"].by_argument
    assert gather["values_ptr"] + gather["indices_ptr"] < 2 * 8 * k * rows
    assert 0 < repaired < tiles / 2
    again = traffic.kernels["_recount_kernel"].by_argument
    assert again["weight_ptr"] <= 4 * width * features


@interpreted
def test_autograd_through_triton_matches_the_cpu() -> None:
    torch.manual_seed(0)
    start = [torch.randn(5, 9), torch.randn(40, 9), torch.randn(40)]
    grads: list[list[Tensor | None]] = []
    for on_triton in (True, False):
        x, weight, bias = (tensor.clone().requires_grad_() for tensor in start)
        if on_triton:
            with interpreter(), poisoned():
                encode_batch_topk(x, weight, bias, 4).codes.values.square().sum().backward()
        else:
            encode_batch_topk(x, weight, bias, 4).codes.values.square().sum().backward()
        grads.append([tensor.grad for tensor in (x, weight, bias)])
    for name, got, want in zip(("x", "weight", "bias"), *grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4, msg=lambda m, n=name: n + m)
