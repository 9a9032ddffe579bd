"""Phase 1: every operation and gradient, whole numbers to the bit, real shapes against float64."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from device_figures.problem import Problem
from device_figures.records import Scene
from isogloss.kernels import (
    Codes,
    decode,
    decode_loss,
    encode_batch_topk,
    encode_threshold,
    encode_topk,
    sparse_gradients,
)
from isogloss.kernels.testing import exact, properties, steps

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}
_BLOCK = 512


def exactness(scene: Scene, name: str) -> None:
    """All kinds of inputs at small shapes, and the harder ones at a real one.

    Args:
        scene: where.
        name: of the dtype.
    """
    dtype, device = DTYPES[name], scene.device.type
    shapes = [(2, 1, 1, 1), (37, 16, 130, 9)]
    if not scene.is_dry:
        shapes += [(130, 77, 1000, 40), (300, 128, 3000, 70), (64, 64, 512, 512)]
        shapes += [(128, 768, 24_576, 32)]
    kinds = [kind for kind in properties.KINDS if kind != "nan and inf weights"]
    hard = ("ties", "one program", "frequency")  # float64 on the CPU is slow at the largest
    for rows, width, features, k in shapes:
        for kind in hard if rows * features > 1e6 else kinds:
            inputs = properties.draw(kind, rows, width, features, 0)
            label = f"{kind} {rows} x {width} -> {features}, k={k}"
            parts: list[Callable[[], Iterable[exact.Check]]] = [
                lambda i=inputs, k=k: exact.encoders(i, k, dtype, device)
            ]
            if kind not in properties.NON_FINITE:
                parts += [
                    lambda i=inputs, k=k, r=r: exact.decoders(i, k, dtype, device, ragged=r)
                    for r in (False, True)
                ]
                parts += [lambda i=inputs, k=k: exact.autograd(i, k, dtype, device)]
            for part in parts:
                scene.attempt(label, lambda part=part, label=label: _note(scene, label, part()))


def pairs(scene: Scene) -> None:
    """Co-activation, with negative values and a hot feature, within a chunk and over several."""
    sizes = [(60, (70, 130), 9)] if scene.is_dry else [(400, (70, 130), 9), (300, (600, 1100), 20)]
    sizes.append((2500, (12, 30), 5))  # the hot feature is summed in parts
    for rows, features, k in sizes:
        for seed in (0, 1):
            label = f"pairs {rows} x {features}, seed {seed}"

            def work(rows: int = rows, features: tuple[int, int] = features, k: int = k) -> None:
                found = exact.pairs(rows, features, k, seed, scene.device.type)  # noqa: B023 (called here)
                _note(scene, label, found)  # noqa: B023 (the same)

            scene.attempt(label, work)


def composed(scene: Scene) -> None:
    """The composed training step, beside the one that is fused on the CPU."""
    for aux_k in (0, 16):
        for over_batch in (False, True):
            label = f"step aux_k={aux_k}{' over the batch' if over_batch else ''}"

            def work(aux_k: int = aux_k, over_batch: bool = over_batch, label: str = label) -> None:
                for gap in steps.gaps(scene.device.type, aux_k=aux_k, over_batch=over_batch):
                    holds = gap.found <= gap.most
                    scene.check(f"{label} {gap.name}", holds, found=gap.found, most=gap.most)

            scene.attempt(label, work)


def _note(scene: Scene, label: str, checks: Iterable[exact.Check]) -> None:
    for check in checks:
        found = (check.found.reshape(-1)[:4], check.wanted.reshape(-1)[:4])
        scene.check(f"{label} {check.name}", check.holds, found_and_wanted=found)


def real_shapes(scene: Scene, name: str) -> None:
    """Random numbers at real shapes, against float64 on the same device, and equal bits again.

    Args:
        scene: where.
        name: of the dtype.
    """
    shapes = [(4096, 768, 24_576, 32), (2048, 4096, 32_768, 64), (1024, 768, 24_576, 512)]
    for shape in [(64, 32, 512, 8)] if scene.is_dry else shapes:
        given = Problem.draw(scene, shape, DTYPES[name])
        label = f"{name} {given.label}"
        for part in (_encoded, _same_bits, _repaired, _ragged, _decoded):
            scene.attempt(
                label, lambda part=part, given=given, label=label: part(scene, label, given)
            )


def _encoded(scene: Scene, label: str, given: Problem) -> None:
    """Values right to rounding; nothing better than the last chosen was missed by more."""
    codes, k = encode_topk(given.x, given.weight, given.bias, given.k), given.k
    within = 2.5e-6 * given.x.shape[1] ** 0.5  # of float32 sums along the width
    missed = wrong = 0
    for at in range(0, len(given.x), _BLOCK):
        pre = given.exact(at, _BLOCK)
        values, order = (
            codes.values[at : at + _BLOCK].double(),
            codes.indices[at : at + _BLOCK].long(),
        )
        wrong += int(((values - pre.gather(1, order).relu()).abs() > within).sum())
        chosen = torch.zeros_like(pre, dtype=torch.bool).scatter_(1, order, True)
        wrong += int((chosen.sum(1) != k).sum()) + int((values.diff(dim=1) > 0).sum())
        missed += int(((pre > values[:, -1:] + within) & ~chosen).any(1).sum())
    scene.check(f"{label} encode", wrong == 0 and missed == 0, wrong=wrong, missed=missed)


def _same_bits(scene: Scene, label: str, given: Problem) -> None:
    seen: list[tuple[Tensor, ...]] = []
    for _ in range(3):
        codes = encode_topk(given.x, given.weight, given.bias, given.k)
        found = sparse_gradients(codes, given.x, given.x, given.weight)
        left = decode_loss(codes, given.weight, given.x)
        seen.append((codes.values, codes.indices, found.decoder, found.encoder, left.residual))
    for other in seen[1:]:
        same = [torch.equal(one, two) for one, two in zip(seen[0], other, strict=True)]
        scene.check(f"{label} equal bits again", all(same), same=same)


def _repaired(scene: Scene, label: str, given: Problem) -> None:
    """Tiles that keep everything, and tiles that hide often, give the bits of the table's."""
    if scene.is_dry or given.k > 64:
        return
    from isogloss.kernels.gpu import encode as gpu
    from isogloss.kernels.gpu.configs import EncodeConfig

    codes = encode_topk(given.x[:256], given.weight, given.bias, given.k)
    depth = 16 if given.weight.dtype == torch.float32 else 64
    for what, tiles, kept in (("keep everything", 1, 64), ("hide often", 8, 2)):
        tile = EncodeConfig(
            rows=64, columns=64, tiles=tiles, kept=kept, depth=depth, warps=4, stages=3
        )
        found = gpu.encode_topk(given.x[:256], given.weight, given.bias, given.k, tile)
        same = torch.equal(found[0], codes.values) and torch.equal(found[1], codes.indices)
        repaired = int(found[2].sum())
        scene.check(f"{label} bits of tiles that {what}", same, repaired=repaired)
        scene.check(f"{label} repairs of tiles that {what}", (repaired > 0) == (tiles > 1))


def _ragged(scene: Scene, label: str, given: Problem) -> None:
    """The entries over the batch, and over the threshold they give, are the same ones."""
    batch = encode_batch_topk(given.x, given.weight, given.bias, given.k)
    entries = batch.codes.values.numel()
    scene.check(f"{label} batch count", entries == given.k * len(given.x), entries=entries)
    below = torch.nextafter(batch.threshold, torch.zeros_like(batch.threshold))
    over = encode_threshold(given.x, given.weight, given.bias, below)
    extra = over.values.numel() - entries  # ties of the last
    tail = over.values.sort().values[max(0, extra) :]
    same = 0 <= extra < 8 and torch.equal(tail, batch.codes.values.sort().values)
    scene.check(f"{label} batch and threshold agree", same, extra=extra)
    edge, count = float(batch.threshold), 0
    for at in range(0, len(given.x), _BLOCK):
        count += int((given.exact(at, _BLOCK) > edge).sum())
    off = abs(over.values.numel() - count)
    scene.check(f"{label} threshold count", off <= max(4, count * 1e-4), off=off)


def _decoded(scene: Scene, label: str, given: Problem) -> None:
    codes = encode_topk(given.x, given.weight, given.bias, given.k)
    dense = _dense(codes)
    wanted = dense @ given.weight.double()
    close = 1e-5 if given.weight.dtype == torch.float32 else 1e-2
    grad = decode_loss(codes, given.weight, given.x).residual
    found = sparse_gradients(codes, grad, given.x, given.weight)
    slope = (dense != 0) * (grad.double() @ given.weight.double().T)
    for what, tensor, want, most in (
        ("decode", decode(codes, given.weight), wanted, close),
        ("residual", grad, wanted - given.x.double(), 1e-5),
        ("gradient to decoder", found.decoder, dense.T @ grad.double(), 1e-5),
        ("gradient to encoder", found.encoder, slope.T @ given.x.double(), 1e-5),
    ):
        gap = float((tensor.double() - want).norm() / want.norm())
        scene.check(f"{label} {what}", gap < most, gap=gap)


def _dense(codes: Codes) -> Tensor:
    out = torch.zeros(codes.rows, codes.features, dtype=torch.float64, device=codes.values.device)
    return out.scatter_(1, codes.indices.long(), codes.values.double())
