"""Two code sets from one encode, on the CPU and by Triton: exact, ties, bits, bad input."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import (
    AdamMoments,
    StepSettings,
    Weights,
    encode_topk,
    encode_topk_aux,
    reference,
    train_step_topk,
)

NAN, INF = float("nan"), float("inf")
KINDS = (
    "ties",
    "duplicates",
    "negative",
    "few positive",
    "one program",
    "ordered",
    "nan and inf rows",
)
_Sets = tuple[Tensor, Tensor, Tensor, Tensor]


def draw(kind: str, rows: int, width: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs whose products are whole numbers below 2**8, so that every dtype sums them exactly."""
    x = torch.randint(-2, 3, (rows, width)).float()
    weight = torch.randint(-1, 2, (features, width)).float()
    bias = torch.randint(-3, 4, (features,)).float()
    if kind == "duplicates":
        weight[features // 2 :] = weight[: features - features // 2].clone()
    elif kind == "negative":
        bias -= 200
    elif kind == "few positive":
        bias[2:] -= 200
    elif kind == "one program":
        dealing = pytest.importorskip("isogloss.kernels.gpu.dealing")
        bias[dealing.program_of(features, -(-features // 64)) == 0] += 100
    elif kind == "ordered":
        bias += torch.linspace(60, -60, features).round()
    elif kind == "nan and inf rows":
        x[0, 0] = NAN
        x[-1, -1] = INF
    return x, weight, bias


def converted(dtype: torch.dtype, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, weight, bias = (tensor.to(dtype) for tensor in inputs)
    return x, weight, bias


def expected(x: Tensor, weight: Tensor, bias: Tensor, k: int, mask: Tensor, aux_k: int) -> _Sets:
    """Both sets, each from a dense encode of its own in float64."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    values, order, aux_values, places = reference.encode_topk_aux(x, weight, bias, k, mask, aux_k)
    return values.float(), order.int(), aux_values.float(), places.int()


def check(found: _Sets, wanted: _Sets) -> None:
    names = ("values", "indices", "aux values", "aux indices")
    for name, got, want in zip(names, found, wanted, strict=True):
        torch.testing.assert_close(
            got, want, rtol=0, atol=0, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}"
        )


def by_cpu(x: Tensor, weight: Tensor, bias: Tensor, k: int, mask: Tensor, aux_k: int) -> _Sets:
    found = encode_topk_aux(x, weight, bias, k, mask, aux_k)
    return found.codes.values, found.codes.indices, found.aux.values, found.aux.indices


def by_triton(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: int,
    mask: Tensor,
    aux_k: int,
    *,
    kept: tuple[int, int] = (4, 4),
    rows: int = 16,
) -> tuple[_Sets, Tensor, Tensor]:
    testing = pytest.importorskip("isogloss.kernels.testing.interpreter")
    from isogloss.kernels.gpu import aux_topk
    from isogloss.kernels.gpu.configs import EncodeConfig

    tile = EncodeConfig(rows=rows, columns=32, tiles=2, kept=kept[0], depth=16, warps=4, stages=2)
    candidates = mask.nonzero().squeeze(1).int()
    with testing.interpreter(), testing.poisoned():
        return aux_topk.encode_topk_aux(x, weight, bias, k, candidates, aux_k, (tile, kept[1]))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 20),
    width=st.integers(1, 20),
    features=st.integers(1, 300),
    k=st.integers(1, 12),
    aux_k=st.integers(1, 40),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_both_sets_on_the_cpu_are_those_of_dense_encodes(
    kind: str,
    rows: int,
    width: int,
    features: int,
    k: int,
    aux_k: int,
    dtype: torch.dtype,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    inputs = converted(dtype, *draw(kind, rows, width, features))
    mask = torch.rand(features) < 0.4
    mask[seed % features] = True
    sizes = (min(k, features), mask, min(aux_k, int(mask.sum())))
    check(by_cpu(*inputs, *sizes), expected(*inputs, *sizes))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 5),
    width=st.integers(1, 20),
    features=st.integers(1, 110),
    k=st.integers(1, 9),
    aux_k=st.integers(1, 20),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_both_sets_by_triton_are_those_of_dense_encodes(
    kind: str,
    rows: int,
    width: int,
    features: int,
    k: int,
    aux_k: int,
    dtype: torch.dtype,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    inputs = converted(dtype, *draw(kind, rows, width, features))
    mask = torch.rand(features) < 0.4
    mask[seed % features] = True
    sizes = (min(k, features), mask, min(aux_k, int(mask.sum())))
    check(by_triton(*inputs, *sizes)[0], expected(*inputs, *sizes))


def test_each_set_has_a_certificate_of_its_own() -> None:
    torch.manual_seed(0)
    x, weight, _ = draw("ties", 3, 8, 256)  # 4 programs of 64 features
    program = pytest.importorskip("isogloss.kernels.gpu.dealing").program_of(256, 4)
    crowded = torch.full((256,), -100.0)
    crowded[program == 1] = 50.0  # under the mask, all winners in one program
    crowded[:12] = 100.0  # without it, three a program
    mask = torch.arange(256) >= 12
    found, main, aux = by_triton(x, weight, crowded, 12, mask, 9)
    check(found, expected(x, weight, crowded, 12, mask, 9))
    assert main.tolist() == [0, 0, 0]
    assert aux.tolist() == [1, 1, 1]
    spread = torch.full((256,), -100.0)
    spread[program == 1] = 50.0
    spread[200:208] = 40.0
    mask = (torch.arange(256) >= 200) & (program != 1)
    found, main, aux = by_triton(x, weight, spread, 12, mask, 6)
    check(found, expected(x, weight, spread, 12, mask, 6))
    assert main.tolist() == [1, 1, 1]
    assert aux.tolist() == [0, 0, 0]


def test_a_second_set_longer_than_a_tile_is_exact() -> None:
    torch.manual_seed(0)
    x, weight, bias = draw("ties", 1, 5, 150)
    mask = torch.arange(150) % 3 > 0
    found, _, _ = by_triton(x, weight, bias, 2, mask, 70, kept=(2, 16))
    check(found, expected(x, weight, bias, 2, mask, 70))


def test_the_tile_of_the_table_is_exact_too() -> None:
    testing = pytest.importorskip("isogloss.kernels.testing.interpreter")
    torch.manual_seed(0)
    x, weight, bias = draw("ties", 2, 16, 300)
    mask = torch.rand(300) < 0.3
    for dtype in (torch.float32, torch.bfloat16):
        inputs = converted(dtype, x, weight, bias)
        with testing.interpreter(), testing.poisoned():
            found = by_cpu(*inputs, 4, mask, 20)
        check(found, expected(*inputs, 4, mask, 20))


def test_the_first_set_has_the_bits_of_encode_topk_and_the_mask_may_hold_all() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(9, 24), torch.randn(200, 24), torch.randn(200)
    every = torch.ones(200, dtype=torch.bool)
    found = encode_topk_aux(x, weight, bias, 5, every, 5)
    alone = encode_topk(x, weight, bias, 5)
    for codes in (found.codes, found.aux):
        assert torch.equal(codes.values, alone.values)
        assert torch.equal(codes.indices, alone.indices)


@pytest.mark.parametrize("on_triton", [False, True])
def test_gradients_reach_the_encoder_through_both_sets(on_triton: bool) -> None:
    torch.manual_seed(0)
    start = [torch.randn(4, 6), torch.randn(40, 6), torch.randn(40)]
    mask = torch.arange(40) % 2 == 0
    slopes = torch.randn(4, 3), torch.randn(4, 5)
    mine = [tensor.clone().requires_grad_() for tensor in start]
    if on_triton:
        testing = pytest.importorskip("isogloss.kernels.testing.interpreter")
        with testing.interpreter():
            found = by_cpu(mine[0], mine[1], mine[2], 3, mask, 5)
            ((found[0] * slopes[0]).sum() + (found[2] * slopes[1]).sum()).backward()
    else:
        found = by_cpu(mine[0], mine[1], mine[2], 3, mask, 5)
        ((found[0] * slopes[0]).sum() + (found[2] * slopes[1]).sum()).backward()
    theirs = [tensor.double().requires_grad_() for tensor in start]
    at = mask.nonzero().squeeze(1)
    values, _ = reference.encode_topk(theirs[0], theirs[1], theirs[2], 3)
    aux, _ = reference.encode_topk(theirs[0], theirs[1][at], theirs[2][at], 5)
    ((values * slopes[0]).sum() + (aux * slopes[1]).sum()).backward()
    for name, got, want in zip(("x", "weight", "bias"), mine, theirs, strict=True):
        assert got.grad is not None
        assert want.grad is not None
        torch.testing.assert_close(
            got.grad, want.grad.float(), rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_any_number_of_threads_gives_the_same_bits() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(70, 48), torch.randn(1031, 48), torch.randn(1031)
    mask = torch.rand(1031) < 0.3
    threads = torch.get_num_threads()
    seen: list[_Sets] = []
    try:
        for number in (1, 2, 4):
            torch.set_num_threads(number)
            seen.append(by_cpu(x, weight, bias, 7, mask, 30))
    finally:
        torch.set_num_threads(threads)
    for other in seen[1:]:
        check(other, seen[0])


def test_every_schedule_gives_the_same_bits() -> None:
    testing = pytest.importorskip("isogloss.kernels.testing.schedule")
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 12), torch.randn(100, 12), torch.randn(100)
    mask = torch.rand(100) < 0.4
    wanted = by_triton(x, weight, bias, 4, mask, 6, kept=(2, 2))[0]
    for seed in range(8):
        with testing.shuffled(seed):
            check(by_triton(x, weight, bias, 4, mask, 6, kept=(2, 2))[0], wanted)


def test_the_weights_are_read_once_for_both_sets_and_no_kernel_uses_atomics() -> None:
    interpreting = pytest.importorskip("isogloss.kernels.testing.interpreter")
    meter = pytest.importorskip("isogloss.kernels.testing.meter")
    torch.manual_seed(0)
    x, weight, bias = torch.randn(16, 32), torch.randn(256, 32), torch.zeros(256)
    mask = torch.arange(256) % 2 == 0
    with interpreting.interpreter(), meter.metering() as traffic:
        _, main, aux = by_triton(x, weight, bias, 3, mask, 3)
    assert traffic.atomics == 0
    kernel = traffic.kernels["_two_candidates_kernel"]
    assert kernel.launches == 1
    assert kernel.by_argument["weight_ptr"] == 4 * 256 * 32
    candidates = 16 * 4 * 4  # rows, programs, kept
    for name in ("keys_ptr", "aux_keys_ptr"):
        assert kernel.by_argument[name] == 4 * candidates
    inputs = 16 * 32 + 256 * 32 + 256 + 256  # rows, weight, bias and mask
    assert kernel.dram == 4 * inputs + 2 * 6 * candidates
    dense = 4 * 16 * 256
    assert kernel.by_argument["keys_ptr"] + kernel.by_argument["aux_keys_ptr"] < dense
    for name in ("_list_kernel", "_again_kernel", "_merge_kernel"):  # 3 of 4 kept cannot hide one
        assert name not in traffic.kernels
    assert not main.any()
    assert not aux.any()


def test_a_mask_is_counted_again_when_it_changed() -> None:
    torch.manual_seed(0)
    x, weight = torch.randint(-3, 4, (4, 8)).float(), torch.randint(-3, 4, (20, 8)).float()
    bias, mask = torch.zeros(20), torch.zeros(20, dtype=torch.bool)
    mask[3:6] = True
    for _ in range(2):
        assert by_cpu(x, weight, bias, 2, mask, 3) is not None
        with pytest.raises(InvalidInput, match=r"aux_k is 4; it must be in \[1, 3\]"):
            by_cpu(x, weight, bias, 2, mask, 4)
    mask[9] = True
    check(by_cpu(x, weight, bias, 2, mask, 4), expected(x, weight, bias, 2, mask, 4))
    with torch.inference_mode():
        made = torch.arange(20) < 2
        assert by_cpu(x, weight, bias, 2, made, 2) is not None
        made[:] = False
        with pytest.raises(InvalidInput, match="aux_k is 2"):
            by_cpu(x, weight, bias, 2, made, 2)


def test_the_second_list_follows_its_winners_and_the_mask() -> None:
    pytest.importorskip("triton")
    from isogloss.kernels.gpu.aux_topk import two_lists
    from isogloss.kernels.gpu.configs import EncodeConfig

    half = EncodeConfig(rows=128, columns=128, tiles=6, kept=8, depth=64, warps=8, stages=3)
    sizes = ((32, 24_576), (256, 20_000), (512, 2_457), (200, 200), (8_000, 20_000))
    found = {(aux_k, masked): two_lists(half, 32, aux_k, masked, 24_576) for aux_k, masked in sizes}
    kept = {
        pair: (tile.rows, tile.columns, tile.tiles, tile.kept, aux)
        for pair, (tile, aux) in found.items()
    }
    assert kept == {
        (32, 24_576): (64, 128, 6, 8, 8),  # as the first list
        (256, 20_000): (64, 128, 6, 8, 32),  # 8 winners expected
        (512, 2_457): (64, 128, 4, 8, 32),  # 11
        (200, 200): (64, 128, 5, 8, 16),  # 5, and no more than that are under the mask
        (8_000, 20_000): (64, 64, 1, 8, 64),  # 21 of 64: all are kept
    }
    smaller, aux = two_lists(replace(half, rows=64), 32, 512, 2_457, 24_576)
    assert (smaller.rows, smaller.columns, smaller.tiles, aux) == (64, 64, 9, 32)


def test_the_training_step_on_triton_takes_both_sets_from_one_pass() -> None:
    interpreting = pytest.importorskip("isogloss.kernels.testing.interpreter")
    meter = pytest.importorskip("isogloss.kernels.testing.meter")
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(20, 6))
    weights = Weights(
        encoder=rows.clone(),
        encoder_bias=torch.zeros(20),
        decoder=rows,
        decoder_bias=torch.zeros(6),
    )
    chosen = StepSettings(k=2, learning_rate=1e-3, variance=6.0, aux_k=3)
    dead = torch.arange(20) < 9
    with interpreting.interpreter(), meter.metering() as traffic:
        found = train_step_topk(
            torch.randn(3, 6), weights, AdamMoments.zeros_like(weights), chosen, step=1, dead=dead
        )
    assert found.aux_loss > 0
    assert traffic.kernels["_two_candidates_kernel"].launches == 1
    assert "_candidates_kernel" not in traffic.kernels


def test_no_rows_give_no_codes() -> None:
    mask = torch.arange(7) < 3
    inputs = (torch.zeros(0, 5), torch.ones(7, 5), torch.zeros(7))
    for found in (by_cpu(*inputs, 2, mask, 3), by_triton(*inputs, 2, mask, 3)[0]):
        assert [tuple(part.shape) for part in found] == [(0, 2), (0, 2), (0, 3), (0, 3)]


def test_what_does_not_fit_is_refused() -> None:
    x, weight, bias = torch.randn(4, 6), torch.randn(20, 6), torch.zeros(20)
    mask = torch.arange(20) < 3
    for aux_k in (0, 4):
        with pytest.raises(InvalidInput, match=rf"aux_k is {aux_k}; it must be in \[1, 3\]"):
            encode_topk_aux(x, weight, bias, 2, mask, aux_k)
    with pytest.raises(InvalidInput, match=r"it must be in \[1, 0\]"):
        encode_topk_aux(x, weight, bias, 2, mask & ~mask, 1)
    with pytest.raises(ShapeError, match=r"mask is \(19,\); \[20\] is wanted"):
        encode_topk_aux(x, weight, bias, 2, mask[:19], 1)
    with pytest.raises(ShapeError, match=r"mask is torch\.int64; torch\.bool is wanted"):
        encode_topk_aux(x, weight, bias, 2, mask.long(), 1)
    with pytest.raises(InvalidInput, match="k is 21"):
        encode_topk_aux(x, weight, bias, 21, mask, 1)
    with pytest.raises(ShapeError, match="weight is"):
        encode_topk_aux(x, weight[:, :5], bias, 2, mask, 1)
