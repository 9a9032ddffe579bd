"""encode_topk on the CPU: exact, ties, NaN and infinity, gradients, bad input."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import (
    AdamMoments,
    Codes,
    StepSettings,
    Weights,
    debugging,
    decode,
    encode_topk,
    reference,
    sparse_gradients,
    train_step_topk,
)
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.debug_mode import reads_content
from isogloss.kernels.cpu.loops.select import fill_topk, merge_all, merge_topk, select_topk

NAN, INF = float("nan"), float("inf")


def expected(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    activations = torch.relu(pre)
    order = torch.sort(activations, dim=1, descending=True, stable=True).indices[:, :k]
    return activations.gather(1, order), order.int()


def awkward_rows(features: int) -> Tensor:
    pre = torch.randn(16, features)
    pre[0] = -1
    pre[1] = 0.5
    pre[2, features // 2] = NAN
    pre[3, 0] = -NAN
    pre[4, : features // 3] = INF
    pre[5] = (pre[5] * 2).round() / 2
    pre[6] = pre[6].sort().values
    pre[7] = pre[7].sort(descending=True).values
    pre[8] = torch.where(torch.rand(features) < 0.99, -pre[8].abs(), pre[8])
    pre[9] = -INF
    pre[10, features // 2 :] = 3.0  # more ties than k
    pre[11, : 8 * (features // 64)] += 100.0  # every winner in a few places
    pre[12, :: max(1, features // 8)] += 100.0  # every winner in one folded group
    return pre


@pytest.mark.parametrize(
    ("features", "k"),
    [(f, k) for f in (1, 7, 64, 130, 1031, 3072, 12289) for k in (1, 3, 32, 130) if k <= f],
)
def test_selection_is_exact_with_ties_by_lowest_feature(features: int, k: int) -> None:
    torch.manual_seed(0)
    pre = awkward_rows(features)
    values, indices = select_topk(pre.clone(), k)
    wanted, order = expected(pre, k)
    torch.testing.assert_close(indices, order, rtol=0, atol=0, msg=lambda m: f"indices: {m}")
    torch.testing.assert_close(values, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("k", [1, 32, 130])
@pytest.mark.parametrize("chunk", [64, 500, 2048])
def test_selection_in_chunks_equals_selection_at_once(k: int, chunk: int) -> None:
    torch.manual_seed(0)
    pre = awkward_rows(3000)
    pre[13], pre[14] = torch.linspace(-1, 9, 3000), torch.linspace(9, -1, 3000)
    pre[15] = torch.linspace(-5, 5, 3000).round()
    values, indices = torch.zeros(16, k), torch.zeros(16, k, dtype=torch.int32)
    for start in range(0, 3000, chunk):
        part = pre[:, start : start + chunk].contiguous()
        merge_all(part, part.shape[1], start, values, indices)
    fill_topk(values, indices)
    wanted, order = expected(pre, k)
    torch.testing.assert_close(indices, order, rtol=0, atol=0, msg=lambda m: f"indices: {m}")
    torch.testing.assert_close(values, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("k", [1, 5, 32])
def test_selection_among_features_in_chunks_equals_selection_of_their_columns(k: int) -> None:
    torch.manual_seed(0)
    pre = torch.randn(9, 3000)
    candidates = torch.randperm(3000)[:1200].sort().values.int()
    values, indices = torch.zeros(9, k), torch.zeros(9, k, dtype=torch.int32)
    for start in (0, 1000, 2000):
        here = candidates[(candidates >= start) & (candidates < start + 1000)]
        part = pre[:, start : start + 1000].contiguous()
        merge_topk(part, torch.stack((here - start, here)), values, indices)
    wanted, order = expected(pre[:, candidates.long()], k)
    assert torch.equal(values, wanted)
    assert torch.equal(indices, candidates[order.long()])


@pytest.mark.parametrize(
    ("rows", "width", "features", "k"),
    [(1, 1, 1, 1), (5, 48, 130, 7), (130, 130, 1030, 32), (3, 16, 9, 9), (0, 4, 6, 2)],
)
def test_encode_matches_reference(rows: int, width: int, features: int, k: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(rows, width), torch.randn(features, width)
    bias = torch.randn(features)
    codes = encode_topk(x, weight, bias, k)
    wanted, order = reference.encode_topk(x.double(), weight.double(), bias.double(), k)
    torch.testing.assert_close(codes.values.double(), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(codes.indices.long(), order)
    assert codes.features == features


def test_encode_spans_chunks_of_rows_and_of_features() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2100, 8), torch.randn(3100, 8), torch.zeros(3100)
    codes = encode_topk(x, weight, bias, 4)
    assert torch.equal(codes.indices.long(), reference.encode_topk(x, weight, bias, 4)[1])


def test_encode_reads_rows_with_a_stride_and_half_precision() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(6, 20)[:, ::2], torch.randn(30, 10), torch.randn(30)
    wanted = encode_topk(x.contiguous(), weight, bias, 3)
    assert torch.equal(encode_topk(x, weight, bias, 3).indices, wanted.indices)
    half = encode_topk(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), 3)
    same = encode_topk(x.bfloat16().float(), weight.bfloat16().float(), bias.bfloat16().float(), 3)
    assert half.values.dtype == torch.float32
    assert torch.equal(half.values, same.values)


def test_two_threads_may_encode_at_once() -> None:
    """numba's workqueue layer would end the process; the room's lock lets in one loop at a time."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(300, 16), torch.randn(700, 16), torch.zeros(700)
    wanted = encode_topk(x, weight, bias, 5)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(encode_topk, x, weight, bias, 5) for _ in range(20)]
        for call in calls:
            assert torch.equal(call.result().indices, wanted.indices)


def test_nan_rows_show_and_other_rows_stay_clean() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(4, 6), torch.randn(50, 6)
    clean = encode_topk(x, weight, torch.zeros(50), 3)
    x[2, 1] = NAN
    codes = encode_topk(x, weight, torch.zeros(50), 3)
    assert codes.values[2].isnan().all()
    assert codes.indices[2].tolist() == [0, 1, 2]
    assert torch.equal(codes.values[[0, 1, 3]], clean.values[[0, 1, 3]])


def test_encode_gradients_match_reference() -> None:
    torch.manual_seed(0)
    start = [torch.randn(7, 12), torch.randn(40, 12), torch.randn(40)]
    grad = torch.randn(7, 6)
    mine = [tensor.clone().requires_grad_() for tensor in start]
    encode_topk(mine[0], mine[1], mine[2], 6).values.backward(grad)
    theirs = [tensor.double().requires_grad_() for tensor in start]
    reference.encode_topk(theirs[0], theirs[1], theirs[2], 6)[0].backward(grad.double())
    for name, got, want in zip(("x", "weight", "bias"), mine, theirs, strict=True):
        assert got.grad is not None
        assert want.grad is not None
        torch.testing.assert_close(
            got.grad.double(), want.grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_reference_encode_passes_gradcheck() -> None:
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((3, 4), (9, 4), (9,))
    )
    assert torch.autograd.gradcheck(
        lambda *inputs: reference.encode_topk(*inputs, k=3)[0], (x, weight, bias)
    )


def test_encode_refuses_what_does_not_fit() -> None:
    x, weight, bias = torch.zeros(2, 4), torch.zeros(6, 4), torch.zeros(6)
    with pytest.raises(ShapeError, match=r"weight is \(6, 5\); \[\*, 4\] is wanted"):
        encode_topk(x, torch.zeros(6, 5), bias, 2)
    with pytest.raises(ShapeError, match=r"bias is \(5,\); \[6\] is wanted"):
        encode_topk(x, weight, torch.zeros(5), 2)
    with pytest.raises(ShapeError, match=r"x is \(4,\)"):
        encode_topk(x[0], weight, bias, 2)
    with pytest.raises(ShapeError, match=r"weight has strides \(1, 6\)"):
        encode_topk(x, torch.zeros(4, 6).T, bias, 2)
    with pytest.raises(ShapeError, match=r"x is torch.float64; float32, bfloat16 or float16"):
        encode_topk(x.double(), weight, bias, 2)
    with pytest.raises(ShapeError, match="x on meta, weight on cpu"):
        encode_topk(x.to("meta"), weight, bias, 2)
    for k in (0, 7):
        with pytest.raises(InvalidInput, match=rf"k is {k}; it must be in \[1, 6\]"):
            encode_topk(x, weight, bias, k)
    meta = [tensor.to("meta") for tensor in (x, weight, bias)]
    with pytest.raises(InvalidInput, match="no kernel for device meta"):
        encode_topk(meta[0], meta[1], meta[2], 2)


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_that_are_not_finite_are_refused_with_their_place(
    wrong: float, dtype: torch.dtype
) -> None:
    x, weight, bias = (torch.ones(*shape, dtype=dtype) for shape in ((2, 4), (6, 4), (6,)))
    weight[3, 1] = wrong
    with pytest.raises(InvalidInput, match=r"weight holds 1 values .* the first at \(3, 1\)"):
        encode_topk(x, weight, bias, 2)
    weight[3, 1], bias[5] = 1, wrong
    with pytest.raises(InvalidInput, match=r"bias holds 1 values .* \(5,\); finite weights"):
        encode_topk(x, weight, bias, 2)
    codes = encode_topk(x, weight, torch.zeros(6), 2)
    weight[0] = wrong
    with pytest.raises(InvalidInput, match="weight holds 4 values"):
        decode(codes, weight)
    with pytest.raises(InvalidInput, match="weight holds 4 values"):
        sparse_gradients(codes, x, x, weight)


def count_searches(monkeypatch: pytest.MonkeyPatch, searched: list[torch.Size]) -> None:
    real = torch.Tensor.aminmax

    def counted(tensor: Tensor) -> object:
        searched.append(tensor.shape)
        return real(tensor)

    monkeypatch.setattr(torch.Tensor, "aminmax", counted)


def test_weights_are_searched_once_for_each_version(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, searched = torch.ones(6, 4), list[torch.Size]()
    count_searches(monkeypatch, searched)
    for _ in range(3):
        checks.finite(weight=weight)
    assert len(searched) == 1
    weight[0, 0] = 2.0
    checks.finite(weight=weight)
    checks.finite(weight=weight)
    assert len(searched) == 2
    with debugging():
        checks.finite(weight=weight)
    assert len(searched) == 3
    with torch.inference_mode():
        untracked = torch.ones(6, 4)  # counts no versions
        checks.finite(weight=untracked)
        checks.finite(weight=untracked)
    assert len(searched) == 5


def test_a_training_step_does_not_search_what_it_made_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(20, 6))
    weights = Weights(
        encoder=rows.clone(),
        encoder_bias=torch.zeros(20),
        decoder=rows,
        decoder_bias=torch.zeros(6),
    )
    moments, chosen = (
        AdamMoments.zeros_like(weights),
        StepSettings(k=3, learning_rate=1e-3, variance=6),
    )
    x, searched = torch.randn(8, 6), list[torch.Size]()
    count_searches(monkeypatch, searched)
    for step in (1, 2, 3):
        train_step_topk(x, weights, moments, chosen, step=step)
    assert len(searched) == 4  # the four tensors, at the first step
    weights.encoder[0, 0] = NAN
    with pytest.raises(InvalidInput, match="encoder holds 1 values"):
        train_step_topk(x, weights, moments, chosen, step=4)


def test_autograd_sees_that_a_training_step_changed_the_weights() -> None:
    torch.manual_seed(0)
    rows = torch.randn(20, 6)
    weights = Weights(
        encoder=rows.clone(),
        encoder_bias=torch.zeros(20),
        decoder=rows,
        decoder_bias=torch.zeros(6),
    )
    x = torch.randn(8, 6, requires_grad=True)
    loss = (x @ weights.encoder.T).sum()
    chosen = StepSettings(k=3, learning_rate=1e-3, variance=6)
    train_step_topk(x.detach(), weights, AdamMoments.zeros_like(weights), chosen, step=1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_debug_mode_reads_content_on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, here = torch.empty(1, device="meta"), torch.empty(1)
    monkeypatch.delenv("ISOGLOSS_DEBUG", raising=False)
    assert (reads_content(here), reads_content(elsewhere)) == (True, False)
    with debugging():
        assert reads_content(elsewhere)
        with debugging():
            assert reads_content(elsewhere)
        assert reads_content(elsewhere)
    assert not reads_content(elsewhere)
    for value, wanted in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("ISOGLOSS_DEBUG", value)
        assert reads_content(elsewhere) is wanted


def test_indices_out_of_range_are_refused_before_the_triton_kernels() -> None:
    pytest.importorskip("triton")
    from isogloss.kernels.testing.interpreter import interpreter

    weight = torch.ones(6, 4)
    wrong = Codes(values=torch.ones(1, 1), indices=torch.full((1, 1), 6).int(), features=6)
    with interpreter(), pytest.raises(InvalidInput, match=r"indices span \[6, 6\]"):
        decode(wrong, weight)
