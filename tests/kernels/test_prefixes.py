"""decode_prefixes: values and gradients on the CPU and in the interpreter, order, bad input."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import Codes, decode, decode_prefixes, encode_batch_topk, reference

triton = pytest.importorskip("triton")
interpreted = pytest.mark.skipif(
    not triton.knobs.runtime.interpret, reason="triton runs on a device here"
)

from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402 (after the check above)
from isogloss.kernels.testing.meter import metering  # noqa: E402
from isogloss.kernels.testing.schedule import shuffled  # noqa: E402

PREFIXES = (3, 10, 30)
NAMES = ("values", "weight", "bias")
PATHS = ["cpu", pytest.param("triton", marks=interpreted)]
NAN, INF = float("nan"), float("inf")


@contextmanager
def _interpreting() -> Generator[None]:
    with interpreter(), poisoned():
        yield


def on(path: str) -> AbstractContextManager[None]:
    return _interpreting() if path == "triton" else nullcontext()


def drawn(rows: int, k: int, features: int, width: int) -> tuple[Codes, Tensor, Tensor]:
    torch.manual_seed(0)
    order = torch.rand(rows, features).argsort(1)[:, :k].int()
    codes = Codes(values=torch.randn(rows, k), indices=order, features=features)
    return codes, torch.randn(features, width), torch.randn(width)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "width", "features", "k"), [(1, 1, 30, 1), (6, 19, 40, 7)])
def test_every_prefix_is_the_decode_of_its_features(
    path: str, ragged: bool, dtype: torch.dtype, rows: int, width: int, features: int, k: int
) -> None:
    codes, weight, bias = drawn(rows, k, features, width)
    weight, bias = weight.to(dtype), bias.to(dtype)
    given = codes.to_ragged() if ragged else codes
    with on(path):
        out = decode_prefixes(given, weight, PREFIXES, bias)
        bare = decode_prefixes(given, weight, PREFIXES)
        whole = decode_prefixes(given, weight, (features,), bias)[0]
        plain = decode(given, weight, bias)
    wide = (codes.values.double(), codes.indices, weight.double())
    assert out.dtype == dtype
    assert out.shape == (3, rows, width)
    torch.testing.assert_close(
        out, reference.decode_prefixes(*wide, PREFIXES, bias.double()).to(dtype)
    )
    torch.testing.assert_close(bare, reference.decode_prefixes(*wide, PREFIXES).to(dtype))
    assert torch.equal(whole, plain)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("ragged", [False, True])
def test_the_matryoshka_loss_sends_the_gradients_of_the_reference(path: str, ragged: bool) -> None:
    fixed, weight, bias = drawn(6, 7, 40, 19)
    target = torch.randn(6, 19)
    codes = fixed.to_ragged() if ragged else fixed
    mine = [tensor.clone().requires_grad_() for tensor in (codes.values, weight, bias)]
    own = Codes(values=mine[0], indices=codes.indices, features=40, offsets=codes.offsets)
    with on(path):
        out = decode_prefixes(own, mine[1], PREFIXES, mine[2])
        (out - target).square().sum(-1).mean().backward()
    theirs = [tensor.double().requires_grad_() for tensor in (fixed.values, weight, bias)]
    wide = reference.decode_prefixes(theirs[0], fixed.indices, theirs[1], PREFIXES, theirs[2])
    (wide - target).square().sum(-1).mean().backward()
    for name, got, want in zip(NAMES, mine, theirs, strict=True):
        assert got.grad is not None
        assert want.grad is not None
        wanted = want.grad.float()
        if name == "values" and ragged:  # the canonical order is by feature
            wanted = wanted.gather(1, fixed.indices.long().argsort(1)).flatten()
        torch.testing.assert_close(
            got.grad, wanted, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    beyond = codes.indices >= PREFIXES[-1]
    assert mine[0].grad is not None
    assert bool(beyond.any())
    assert not mine[0].grad[beyond].any()
    assert mine[1].grad is not None
    assert not mine[1].grad[PREFIXES[-1] :].any()


def test_only_wanted_gradients_are_given() -> None:
    codes, weight, bias = drawn(4, 3, 30, 5)
    decode_prefixes(codes, weight.requires_grad_(), PREFIXES, bias).sum().backward()
    assert weight.grad is not None
    assert bias.grad is None
    with torch.no_grad():
        assert not decode_prefixes(codes, weight, PREFIXES).requires_grad


def test_batch_topk_and_prefixes_train_together() -> None:
    torch.manual_seed(0)
    start = [torch.randn(9, 8), torch.randn(30, 8), torch.zeros(30), torch.randn(30, 8)]
    x, encoder, bias, decoder = (tensor.clone().requires_grad_() for tensor in start)
    codes = encode_batch_topk(x, encoder, bias, 4).codes
    out = decode_prefixes(codes, decoder, PREFIXES)
    (out - start[0]).square().sum(-1).mean().backward()
    wide = [tensor.double().requires_grad_() for tensor in start]
    values, indices, offsets, _ = reference.encode_batch_topk(wide[0], wide[1], wide[2], 4)
    parts = [
        reference.decode_ragged(torch.where(indices < prefix, values, 0), indices, offsets, wide[3])
        for prefix in PREFIXES
    ]
    (torch.stack(parts) - start[0]).square().sum(-1).mean().backward()
    for name, got, want in zip(
        ("x", "encoder", "bias", "decoder"), (x, encoder, bias, decoder), wide, strict=True
    ):
        assert got.grad is not None
        assert want.grad is not None
        torch.testing.assert_close(
            got.grad.double(), want.grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_the_reference_passes_gradcheck() -> None:
    codes, weight, bias = drawn(3, 4, 12, 5)
    inputs = tuple(t.double().requires_grad_() for t in (codes.values, weight, bias))

    def run(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return reference.decode_prefixes(values, codes.indices, weight, (2, 5, 11), bias)

    assert torch.autograd.gradcheck(run, inputs)


@interpreted
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(0, 5),
    width=st.integers(1, 20),
    features=st.integers(1, 40),
    prefixes=st.sets(st.integers(1, 40), min_size=1, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_triton_and_the_cpu_are_exact_on_whole_numbers(
    rows: int, width: int, features: int, prefixes: set[int], dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    edges = sorted({min(prefix, features) for prefix in prefixes})
    k = min(6, features)
    indices = torch.randint(0, features, (rows, k), dtype=torch.int32)
    values = torch.randint(0, 4, (rows, k)).float()
    weight = torch.randint(-2, 3, (features, width)).to(dtype)
    codes = Codes(values=values, indices=indices, features=features)
    wanted = reference.decode_prefixes(values, indices, weight.float(), tuple(edges)).to(dtype)
    with interpreter(), poisoned():
        assert torch.equal(decode_prefixes(codes, weight, edges), wanted)
    assert torch.equal(decode_prefixes(codes, weight, edges), wanted)
    assert torch.equal(decode_prefixes(codes.to_ragged(), weight, edges), wanted)


@pytest.mark.parametrize("path", PATHS)
def test_values_that_are_not_finite_stay_in_the_prefixes_that_hold_them(path: str) -> None:
    codes, weight, bias = drawn(3, 5, 30, 7)
    codes.values[0, 2], codes.indices[0, 2] = NAN, 15
    codes.values[1, 1], codes.indices[1, 1] = INF, 25
    with on(path):
        out = decode_prefixes(codes, weight, PREFIXES, bias)
    assert out[:2, 0].isfinite().all()
    assert out[2, 0].isnan().all()
    assert out[:2, 1].isfinite().all()
    assert out[2, 1].isinf().all()
    assert out[:, 2].isfinite().all()


def gradients(codes: Codes, weight: Tensor, grad: Tensor) -> list[Tensor]:
    values = codes.values.clone().requires_grad_()
    matrix, bias = weight.clone().requires_grad_(), grad[0, 0].clone().requires_grad_()
    own = Codes(values=values, indices=codes.indices, features=codes.features)
    out = decode_prefixes(own, matrix, PREFIXES, bias)
    out.backward(grad)
    return [out.detach(), *(t.grad for t in (values, matrix, bias) if t.grad is not None)]


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    codes, weight, _ = drawn(700, 9, 40, 50)
    grad = torch.randn(3, 700, 50)
    before, seen = torch.get_num_threads(), list[list[Tensor]]()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            seen.append(gradients(codes, weight, grad))
    finally:
        torch.set_num_threads(before)
    for other in seen[1:]:
        assert len(other) == 4
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


@interpreted
def test_every_schedule_gives_the_same_bits() -> None:
    codes, weight, _ = drawn(5, 4, 30, 6)
    grad = torch.randn(3, 5, 6)
    seen: list[list[Tensor]] = []
    for seed in range(8):
        with interpreter(), shuffled(seed):
            seen.append(gradients(codes, weight, grad))
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))


@interpreted
def test_each_direction_is_read_once_for_all_prefixes() -> None:
    rows, k, features, width = 16, 6, 40, 32
    codes, weight, bias = drawn(rows, k, features, width)
    with interpreter(), metering() as traffic:
        decode_prefixes(codes, weight, PREFIXES, bias)
    kernel = traffic.kernels["_prefixes_kernel"]
    held = codes.indices < PREFIXES[-1]
    assert kernel.launches == 1
    assert kernel.atomics == 0
    assert kernel.by_argument["weight_ptr"] == 4 * width * codes.indices[held].unique().numel()
    assert kernel.by_argument["out_ptr"] == 4 * 3 * rows * width
    loads = 4 * width * (int(held.sum()) + rows * 4)  # a direction an entry, bias, three results
    lists = 2 * 32 * rows * k * 3 + 32 * rows * 3
    assert loads <= kernel.l2 <= loads + lists


def test_what_does_not_fit_is_refused() -> None:
    codes, weight, bias = drawn(4, 3, 30, 5)
    for wrong in ((), (0, 3), (3, 3), (5, 3), (3, 31)):
        with pytest.raises(InvalidInput, match=r"prefixes are \[.*\]; numbers that rise within"):
            decode_prefixes(codes, weight, wrong, bias)
    with pytest.raises(ShapeError, match=r"weight is \(29, 5\); \[30, \*\] is wanted"):
        decode_prefixes(codes, weight[:29], PREFIXES)
    with pytest.raises(ShapeError, match=r"bias is \(4,\); \[5\] is wanted"):
        decode_prefixes(codes, weight, PREFIXES, bias[:4])
    codes.indices[0, 0] = 30
    with pytest.raises(InvalidInput, match=r"must be in \[0, 30\)"):
        decode_prefixes(codes, weight, PREFIXES)
