"""Figures that are counted: bytes, repairs, atomics, wrong rows; the same on every machine."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from isogloss.kernels import SparseGradients, encode_topk, sparse_gradients
from isogloss.kernels.arguments import checks
from isogloss.kernels.cpu.loops.select import merge_all
from isogloss.kernels.gpu import encode as gpu_encode
from isogloss.kernels.gpu.configs import ENCODE_FLOAT, ENCODE_HALF, EncodeConfig, fitted
from isogloss.kernels.gpu.dealing import program_of
from isogloss.kernels.testing import properties
from isogloss.kernels.testing.budgets import (
    EncodeShape,
    encode_bytes,
    gemm_bytes,
    tiles_again,
)
from isogloss.kernels.testing.interpreter import interpreter
from isogloss.kernels.testing.meter import metering
from isogloss.kernels.testing.schedule import shuffled
from isogloss.kernels.testing.selection import exact, select
from kernels_figures.figure import Figure

ROWS, WIDTH, FEATURES, K = 4096, 768, 24_576, 32


def hidden_programs(pre: Tensor, k: int, config: EncodeConfig) -> Tensor:
    """Where the certificate fails, bool ``[rows, programs]``: all that a program keeps is selected.

    The same as ``select(...).hiding``, for pre-activations without ties, in less time.
    """
    rows, features = pre.shape
    programs = -(-features // (config.columns * config.tiles))
    values = torch.zeros(rows, k)
    indices = torch.zeros(rows, k, dtype=torch.int32)
    merge_all(pre, features, 0, values, indices)
    held = program_of(features, programs)[indices.long()]
    counts = torch.zeros(rows, programs, dtype=torch.int64)
    counts.scatter_add_(1, held, (values > 0).long())
    return counts >= config.kept


def hiding_of(ordered: bool, rows: int, config: EncodeConfig) -> Tensor:
    """:func:`hidden_programs` of Gaussian numbers; ``ordered``: their mean falls from 2 to -2."""
    generator = torch.Generator().manual_seed(0)
    trend = torch.linspace(2.0, -2.0, FEATURES) if ordered else torch.zeros(FEATURES)
    found = [
        hidden_programs(torch.randn(512, FEATURES, generator=generator) + trend, K, config)
        for _ in range(rows // 512)
    ]
    return torch.cat(found)


def encode_ratios(
    size: int, config: EncodeConfig, hiding: Tensor
) -> tuple[float, float, float, float]:
    """DRAM bytes / floor, L2 bytes / floor, that of a GEMM in the same tile, and in 128 x 256.

    Args:
        size: bytes of a number.
        config: the tile.
        hiding: of some multiple of ``ROWS`` rows; the mean over calls of ``ROWS`` rows counts.

    Returns:
        The four ratios.
    """
    shape = EncodeShape(rows=ROWS, width=WIDTH, features=FEATURES, k=K, size=size)
    calls = [encode_bytes(shape, config, part) for part in hiding.split(ROWS)]
    dram, l2 = (
        sum(each) / len(calls) for each in zip(*((c.dram, c.l2) for c in calls), strict=True)
    )
    same, large = gemm_bytes(shape, config.rows, config.columns), gemm_bytes(shape, 128, 256)
    floor = shape.floor
    return dram / floor, l2 / floor, same.l2 / floor, large.l2 / floor


def _dense_peers(size: int) -> dict[str, float]:
    """DRAM bytes / floor of encoders that write the dense pre-activations, by the same rules."""
    shape = EncodeShape(rows=ROWS, width=WIDTH, features=FEATURES, k=K, size=size)
    dense = ROWS * FEATURES * size / shape.floor
    return {"linear, relu, topk (eager)": 1 + 4 * dense, "relu in the GEMM, topk": 1 + 2 * dense}


def encode_figures() -> Iterator[Figure]:
    """Bytes of the fused encoder at 4096 x 768 -> 24576, k = 32; repairs included."""
    half, single = fitted(ENCODE_HALF, K, FEATURES), fitted(ENCODE_FLOAT, K, FEATURES)
    rows = 20_480
    random, ordered = (hiding_of(falls, rows, half) for falls in (False, True))
    text = f"certificate on {rows} rows of Gaussian pre-activations"
    yield Figure(id="repair_random", value=_share(random), bar=0.005, how=text, unit="of rows")
    yield Figure(
        id="repair_ordered",
        value=_share(ordered),
        bar=0.05,
        how=f"{text}, mean falling 2 to -2",
        unit="of rows",
    )
    yield from adversarial_figures(half)
    text = f"formula / floor, {ROWS} x {WIDTH} -> {FEATURES}, k={K}, repairs included"
    for name, size, tile, bar in (
        ("encode_dram_bf16", 2, half, 1.40),
        ("encode_dram_fp32", 4, single, 1.20),
    ):
        value = encode_ratios(size, tile, random)[0]
        yield Figure(id=name, value=value, bar=bar, how=text, peers=_dense_peers(size))
    _, l2, gemm, large = encode_ratios(2, half, random)
    yield Figure(
        id="encode_l2_bf16",
        value=l2,
        bar=1.05 * gemm,
        how=f"{text}; bar: 1.05 x a GEMM in the same {half.rows} x {half.columns} tiles that "
        "writes its output and selects nothing",
        peers={"GEMM, same tile": gemm, "GEMM, 128 x 256": large},
    )


def _share(hiding: Tensor) -> float:
    """Share of the rows that are repaired."""
    return float(hiding.any(1).double().mean())


def adversarial_figures(config: EncodeConfig) -> Iterator[Figure]:
    """The repair where features in blocks of 32 correlate, and where a layout is made for it."""
    generator = torch.Generator().manual_seed(0)
    programs = -(-FEATURES // (config.columns * config.tiles))
    pre = 0.6 * torch.randn(1024, FEATURES, generator=generator)
    pre += torch.randn(1024, 32, generator=generator).repeat(1, FEATURES // 32)
    families = hidden_programs(pre, K, config)
    yield Figure(
        id="repair_families",
        value=_share(families),
        bar=0.005,
        how="rows repaired where features that are equal modulo 32 correlate (r = .74)",
        unit="of rows",
        peers={"dealt by stride": _share_by_stride(pre, config)},
    )
    worst = worst_hiding(ROWS, programs, K // config.kept, config.rows)
    first = programs * -(-ROWS // config.rows)
    again = tiles_again(worst, config)
    dram = encode_ratios(2, config, worst)[0] / encode_ratios(2, config, ~worst & worst)[0]
    bound = K // config.kept / programs + config.rows / ROWS
    yield Figure(
        id="repair_adversarial",
        value=1 + again / first,
        bar=1.5,
        how=f"tiles multiplied, first pass and repair / first pass: {ROWS} rows, each with all "
        f"winners in {K // config.kept} programs, shifted by block so that every tile of the "
        "repair that can be begun is; gpu/dealing.py proves the bound",
        peers={"the bound": 1 + bound, "DRAM bytes / those without a repair": dram},
    )


def worst_hiding(rows: int, programs: int, most: int, block: int) -> Tensor:
    """Rows and programs of the layout that costs the repair most, bool ``[rows, programs]``.

    Every row hides in as many programs as it can, and the number of rows of as many programs as
    possible is one above a multiple of ``block``: each of those begins a tile for one row.
    """
    hiding = torch.zeros(rows, programs, dtype=torch.bool)
    lone = programs - most  # programs that get one row
    for row in range(rows):
        own = [most + (row * most + n) % lone for n in range(most)] if row * most < lone else []
        hiding[row, own or list(range(most))] = True
    return hiding


def _share_by_stride(pre: Tensor, config: EncodeConfig) -> float:
    """Rows that would be repaired if program ``p`` took each feature ``p`` modulo ``programs``."""
    programs = -(-pre.shape[1] // (config.columns * config.tiles))
    held = pre.topk(K, dim=1).indices % programs
    counts = torch.zeros(pre.shape[0], programs, dtype=torch.int64)
    counts.scatter_add_(1, held, torch.ones_like(held))
    return _share(counts >= config.kept)


def backward_figures() -> Iterator[Figure]:
    """All four gradients, by the meter."""
    for name, rows, features, bar in (
        ("backward_dram", 64, 2048, 1.06),
        ("backward_dram_256", 256, 1024, 1.10),
    ):
        torch.manual_seed(0)
        width, k = 256, 16
        x, encoder = torch.randn(rows, width), torch.randn(features, width) / width**0.5
        grad, decoder = torch.randn(rows, width), torch.randn(features, width)
        codes = encode_topk(x, encoder, torch.zeros(features), k)
        checks.finite(weight=decoder)  # searched once for each version, not in each call
        with interpreter(), metering() as traffic:
            first = sparse_gradients(codes, grad, x, decoder)
        used = codes.indices.unique().numel()
        floor = 4 * (
            2 * rows * width + used * width + 3 * rows * k + 2 * features * width + features
        )
        how = f"meter / floor, {rows} x {width}, {features} features, k={k}; torch's sort included"
        # the peers' own kernels, in an earlier run of this meter on these shapes
        peers = {"sparsify, both gradients": 2.51 if rows == 64 else 3.91}
        yield Figure(id=name, value=traffic.dram / floor, bar=bar, how=how, peers=peers)
        if name == "backward_dram":
            peers = {"openai (float)": 208_384.0, "sparsify (integer)": 2048.0}
            yield Figure(
                id="atomics", value=traffic.atomics, bar=0, how=how, unit="count", peers=peers
            )
            yield _schedule_figure(
                first,
                lambda: sparse_gradients(codes, grad, x, decoder),  # noqa: B023 (called here)
            )


def _schedule_figure(first: SparseGradients, again: Callable[[], SparseGradients]) -> Figure:
    same = 0
    for seed in range(8):
        with interpreter(), shuffled(seed):
            second = again()
        same += all(
            torch.equal(getattr(first, part), getattr(second, part))
            for part in ("values", "decoder", "encoder", "encoder_bias")
        )
    how = "schedules of 8 with the same bits; every kernel: tests/kernels/gpu/test_gradients.py"
    return Figure(id="schedule_bits", value=same, bar=8, how=how, at_most=False, unit="of 8")


def _adversarial(kind: int, rows: int, features: int, programs: int, seed: int) -> Tensor:
    """Pre-activations: random, with ties, with winners in one program, ordered; none positive."""
    generator = torch.Generator().manual_seed(seed)
    pre = torch.randn(rows, features, generator=generator)
    if kind == 1:
        pre = pre.round()
    elif kind == 2:
        pre[:, program_of(features, programs) == 0] += 2.0
    elif kind == 3:
        pre += torch.linspace(2, -2, features)
    elif kind == 4:
        pre[:, 5:] -= 9.0
    return pre


def _wrong_by_kernels(rows: int) -> tuple[int, int]:
    """Wrong rows, and repaired rows, of the real kernels in the interpreter, by the model too."""
    config = EncodeConfig(rows=64, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)
    finite = [kind for kind in properties.KINDS if kind not in properties.NON_FINITE]
    wrong = repairs = done = 0
    while done < rows:
        count = min(64, rows - done)
        inputs = properties.draw(finite[done // 64 % len(finite)], count, 16, 300, done)
        given = (inputs.x.float(), inputs.weight.float(), inputs.bias.float())
        with interpreter():
            values, indices, repaired = gpu_encode.encode_topk(*given, 9, config)
        pre = (inputs.x @ inputs.weight.T + inputs.bias).float()
        wanted, model = exact(pre, 9), select(pre, 9, config)
        off = (indices != wanted[1]) | (values != wanted[0]) | (model.indices != indices)
        wrong += int((off.any(1) | (model.repaired != repaired.bool())).sum())
        repairs += int(repaired.sum())
        done += count
    return wrong, repairs


def wrong_figures(real_rows: int = 1024) -> Iterator[Figure]:
    """Rows that differ from the exact selection after certificate and repair."""
    config = EncodeConfig(rows=16, columns=32, tiles=2, kept=8, depth=16, warps=4, stages=2)
    features, k, wrong, rows, repairs, helped = 2048, 32, 0, 0, 0, 0
    for n in range(400):
        pre = _adversarial(n % 5, 256, features, features // 64, n)
        found, wanted = select(pre, k, config), exact(pre, k)
        off = (found.indices != wanted[1]) | (found.values != wanted[0])
        wrong += int(off.any(1).sum())
        helped += int((found.visible != wanted[1]).any(1).sum())
        repairs += int(found.repaired.sum())
        rows += 256
    real, real_repairs = _wrong_by_kernels(real_rows)
    yield Figure(
        id="wrong_rows",
        value=wrong + real,
        bar=0,
        how=f"{rows} rows by the model of selection, certificate and repair ({repairs} repaired, "
        f"{helped} wrong before), and {real_rows} by the kernels themselves ({real_repairs} "
        "repaired), which the model matches row by row; random, ties, crowded, ordered, few",
        unit="rows",
    )
