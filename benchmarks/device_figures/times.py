"""Phase 2: times of every operation beside torch's own, on random numbers."""

from dataclasses import replace

import torch

from device_figures import eager
from device_figures.clock import kernels, replay, seconds, take
from device_figures.problem import Problem
from device_figures.records import Scene
from isogloss.kernels import (
    AdamMoments,
    Codes,
    StepSettings,
    Weights,
    coactivation,
    decode,
    decode_loss,
    decode_prefixes,
    encode_batch_topk,
    encode_threshold,
    encode_topk,
    encode_topk_aux,
    sparse_gradients,
    train_step_topk,
)

MAIN, LARGE = (4096, 768, 24_576, 32), (16_384, 4096, 131_072, 64)
"""Rows, width, features and k."""
FEW = (32, 512)
"""Numbers of rows besides those of ``MAIN``."""
_DRY = (64, 32, 512, 8)


def _problem(scene: Scene, shape: tuple[int, int, int, int], dtype: torch.dtype) -> Problem:
    return Problem.draw(scene, _DRY if scene.is_dry else shape, dtype)


def rates(scene: Scene) -> None:
    """What a copy and square GEMMs reach, on random numbers (zeros and ones run faster)."""
    size, side = (1 << 16, 256) if scene.is_dry else (1 << 28, 8192)
    source = torch.randn(size, device=scene.device)
    target = torch.empty_like(source)
    taken = seconds(scene, lambda: target.copy_(source))
    scene.note("copy", ms=taken * 1e3, gigabytes_per_s=8 * size / taken / 1e9)
    for dtype in (torch.bfloat16, torch.float32):
        square = torch.randn(side, side, device=scene.device).to(dtype)
        out = torch.empty_like(square)
        name = f"GEMM {dtype}".replace("torch.", "")

        def multiply(square: torch.Tensor = square, out: torch.Tensor = out) -> object:
            return torch.mm(square, square, out=out)

        take(scene, name, multiply, operations=2 * side**3)


def encode(scene: Scene, name: str, dtype: torch.dtype) -> None:
    """``encode_topk`` beside its GEMM alone and the eager encoder, at three numbers of rows."""
    whole = _problem(scene, MAIN, dtype)
    for rows in (*FEW, len(whole.x)):
        given = replace(whole, x=whole.x[:rows])
        x, weight, bias = given.x, given.weight, given.bias.to(dtype)
        label = f"{name} {rows} rows"
        work = 2 * rows * weight.numel()

        def gemm() -> object:
            return torch.addmm(bias, x, weight.T)  # noqa: B023 (called here)

        def dense() -> object:
            return eager.topk(x, weight, bias, given.k)  # noqa: B023 (called here)

        def ours() -> object:
            return encode_topk(x, weight, given.bias, given.k)  # noqa: B023 (called here)

        beside = take(scene, f"{label} addmm", gemm, operations=work)
        take(scene, f"{label} eager", dense, beside=beside)
        take(scene, f"{label} encode_topk", ours, beside=beside, operations=work, has_host=True)
        replay(scene, f"{label} encode_topk", ours)
        kernels(scene, f"{label} encode_topk", ours)


def compiled(scene: Scene) -> None:
    """The eager encoder under ``torch.compile``."""
    if scene.is_dry:
        scene.note("bf16 torch.compile(eager)", ms=None, why="compiled on a device only")
        return
    given = _problem(scene, MAIN, torch.bfloat16)
    x, weight, bias = given.x, given.weight, given.bias.bfloat16()
    made = torch.compile(eager.topk)
    beside = take(scene, "bf16 addmm", lambda: torch.addmm(bias, x, weight.T))
    take(scene, "bf16 torch.compile(eager)", lambda: made(x, weight, bias, given.k), beside=beside)


def large(scene: Scene) -> None:
    """``encode_topk`` at 16384 x 4096 -> 131072."""
    given = _problem(scene, LARGE, torch.bfloat16)
    x, weight, bias = given.x, given.weight, given.bias.bfloat16()
    work = 2 * len(x) * weight.numel()
    beside = take(scene, "large addmm", lambda: torch.addmm(bias, x, weight.T), operations=work)
    take(scene, "large eager", lambda: eager.topk(x, weight, bias, given.k), beside=beside)

    def ours() -> object:
        return encode_topk(x, weight, given.bias, given.k)

    take(scene, "large encode_topk", ours, beside=beside, operations=work)
    kernels(scene, "large encode_topk", ours)


def decoders(scene: Scene, name: str, dtype: torch.dtype) -> None:
    """Decode and gradients beside ``embedding_bag`` and dense products."""
    given = _problem(scene, MAIN, dtype)
    x, weight, bias = given.x, given.weight, given.bias.to(dtype)
    codes = encode_topk(x, weight, given.bias, given.k)
    indices, values = codes.indices.long(), codes.values.to(dtype)
    beside = seconds(scene, lambda: torch.addmm(bias, x, weight.T))
    dense = torch.zeros(len(x), len(weight), device=x.device, dtype=dtype)
    dense.scatter_(1, indices, values)
    grad = decode_loss(codes, weight, x).residual.to(dtype)
    edges = sorted({max(1, len(weight) * part // 16) for part in (1, 2, 4, 8, 16)})
    own, table = weight.clone().requires_grad_(), weight.clone().requires_grad_()

    def ours() -> None:
        own.grad = None
        decode(Codes(values=codes.values, indices=codes.indices, features=len(own)), own).backward(
            grad
        )

    def theirs() -> None:
        table.grad = None
        eager.bag(indices, values, table).backward(grad)

    def products() -> object:
        slope = (grad @ weight.T) * (dense != 0)
        return dense.T @ grad, slope.T @ x, slope.sum(0)

    for label, call, has_host in (
        ("decode", lambda: decode(codes, weight), True),
        ("decode by embedding_bag", lambda: eager.bag(indices, values, weight), False),
        ("decode by a dense product", lambda: dense @ weight, False),
        ("decode_loss", lambda: decode_loss(codes, weight, x), False),
        ("decode_prefixes", lambda: decode_prefixes(codes, weight, edges), True),
        ("sparse_gradients", lambda: sparse_gradients(codes, grad, x, weight), True),
        ("gradients by dense products", products, False),
        ("decode and backward", ours, False),
        ("embedding_bag and backward", theirs, False),
    ):
        take(scene, f"{name} {label}", call, beside=beside, has_host=has_host)
    kernels(scene, f"{name} sparse_gradients", lambda: sparse_gradients(codes, grad, x, weight))
    replay(scene, f"{name} decode", lambda: decode(codes, weight))


def choices(scene: Scene, name: str, dtype: torch.dtype) -> None:
    """The other encoders beside what torch does for the same."""
    given = _problem(scene, MAIN, dtype)
    x, weight, bias = given.x, given.weight, given.bias
    own = bias.to(dtype)
    beside = seconds(scene, lambda: torch.addmm(own, x, weight.T))
    edge = float(encode_topk(x, weight, bias, given.k).values[:, -1].mean())
    mask = torch.arange(len(weight), device=x.device) % 10 == 0
    aux_k, wanted = min(512, int(mask.sum())), given.k * len(x)
    for label, call in (
        ("encode_threshold", lambda: encode_threshold(x, weight, bias, edge)),
        ("addmm and nonzero", lambda: (torch.addmm(own, x, weight.T) > edge).nonzero()),
        ("encode_batch_topk", lambda: encode_batch_topk(x, weight, bias, given.k)),
        (
            "addmm and topk of all",
            lambda: torch.addmm(own, x, weight.T).relu_().flatten().topk(wanted),
        ),
        ("encode_topk_aux", lambda: encode_topk_aux(x, weight, bias, given.k, mask, aux_k)),
    ):
        take(scene, f"{name} {label}", call, beside=beside, has_host="encode" in label)


def training(scene: Scene) -> None:
    """A whole step of training in float32, and co-activation."""
    given = _problem(scene, MAIN, torch.float32)
    x, k = given.x, given.k
    rows = torch.nn.functional.normalize(given.weight)
    zeros = torch.zeros(x.shape[1], device=x.device)
    weights = Weights(
        encoder=rows.clone(),
        encoder_bias=torch.zeros(len(rows), device=x.device),
        decoder=rows.clone(),
        decoder_bias=zeros,
    )
    moments = AdamMoments.zeros_like(weights)
    settings = StepSettings(k=k, learning_rate=1e-4, variance=float(x.shape[1]))
    theirs = eager.Step(given.weight, k)

    def ours() -> object:
        return train_step_topk(x, weights, moments, settings, step=1)

    beside = take(scene, "fp32 addmm", lambda: torch.addmm(given.bias, x, given.weight.T))
    take(scene, "step eager", lambda: theirs(x), beside=beside)
    take(scene, "step train_step_topk", ours, beside=beside, has_host=True)
    kernels(scene, "step train_step_topk", ours)
    codes = encode_topk(x, given.weight, given.bias, k)
    take(scene, "coactivation", lambda: coactivation(codes, codes, count=2), beside=beside)
