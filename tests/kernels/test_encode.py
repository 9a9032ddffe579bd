"""encode_topk against its reference: values, ties, gradients, bad input."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import (
    encode_topk,
    reference,
)

NAN, INF = float("nan"), float("inf")


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
