"""Figures of the kernels: counted bytes (no GPU needed), exactness, and times on this CPU.

``python benchmarks/kernels.py [--json] [--only GROUP]``: one line a figure, ``id value bar``.
Bytes come from formulas that tests/kernels/test_triton.py checks against the traffic meter, or from
the meter itself. Times are ratios of medians of interleaved rounds, two threads: run on a quiet
machine.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

os.environ.setdefault("TRITON_INTERPRET", "1")

import torch
from torch import Tensor

from isogloss.kernels import (
    Moments,
    StepSettings,
    Weights,
    Workspace,
    encode_topk,
    sparse_gradients,
    train_step_topk,
)
from isogloss.kernels.cpu.select import fill_topk, merge_all
from isogloss.kernels.gpu.configs import ENCODE_FLOAT, ENCODE_HALF, EncodeConfig, fitted
from isogloss.kernels.testing.interpreter import interpreter
from isogloss.kernels.testing.meter import metering
from isogloss.kernels.testing.schedule import shuffled

ROWS, WIDTH, FEATURES, K = 4096, 768, 24_576, 32


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number."""

    id: str
    """Its name."""
    value: float
    """What was measured."""
    bar: float | None
    """What it should reach."""
    how: str
    """What was done."""


def hidden_rows(pre: Tensor, k: int, config: EncodeConfig) -> Tensor:
    """Rows on which the certificate fails: some program holds ``kept`` or more of the winners."""
    features = pre.shape[1]
    programs = -(-features // (config.columns * config.tiles))
    values = torch.zeros(pre.shape[0], k)
    indices = torch.zeros(pre.shape[0], k, dtype=torch.int32)
    merge_all(pre, features, 0, values, indices)
    reached = (pre >= values[:, -1:]) & (pre > 0)
    padded = torch.nn.functional.pad(reached, (0, -features % programs))
    return (padded.view(pre.shape[0], -1, programs).sum(1) >= config.kept).any(1)


def _share_repaired(ordered: bool, rows: int, config: EncodeConfig) -> float:
    generator = torch.Generator().manual_seed(0)
    trend = torch.linspace(2.0, -2.0, FEATURES) if ordered else torch.zeros(FEATURES)
    found = 0
    for _ in range(rows // 512):
        pre = torch.randn(512, FEATURES, generator=generator) + trend
        found += int(hidden_rows(pre, K, config).sum())
    return found / (rows // 512 * 512)


def _encode_bytes(size: int, config: EncodeConfig, repaired: float) -> tuple[float, float, float]:
    """DRAM bytes / floor, L2 bytes / floor, and the same of a GEMM with that tile."""
    programs = -(-FEATURES // (config.columns * config.tiles))
    inputs = ROWS * WIDTH * size + FEATURES * WIDTH * size + FEATURES * 4
    out = ROWS * K * 8
    candidates = 2 * ROWS * programs * config.kept * 6
    # a repaired row reads its candidates again, and the features of one program
    again = repaired * ROWS * (config.columns * config.tiles * WIDTH * size + programs * 48 + K * 8)
    dram = inputs + candidates + out + 2 * ROWS * 4 + again
    column_tiles, row_tiles = -(-FEATURES // config.columns), -(-ROWS // config.rows)
    gemm = (ROWS * column_tiles + FEATURES * row_tiles) * WIDTH * size
    floor = inputs + out
    plain = gemm + 2 * ROWS * FEATURES * size  # its output is written, and read by the selection
    return dram / floor, (gemm + candidates + out + again) / floor, plain / floor


def encode_figures() -> Iterator[Figure]:
    """Bytes of the fused encoder at 4096 x 768 -> 24576, k = 32; repairs included."""
    half, single = fitted(ENCODE_HALF, K, FEATURES), fitted(ENCODE_FLOAT, K, FEATURES)
    rows = 20_480
    random = _share_repaired(False, rows, half)
    ordered = _share_repaired(True, rows, half)
    shape = f"{ROWS} x {WIDTH} -> {FEATURES}, k={K}"
    text = f"certificate on {rows} rows of Gaussian pre-activations"
    yield Figure(id="repair_random", value=random, bar=0.005, how=text)
    yield Figure(id="repair_ordered", value=ordered, bar=0.05, how=f"{text}, mean falling 2 to -2")
    dram, l2, gemm = _encode_bytes(2, half, random)
    yield Figure(id="encode_dram_bf16", value=dram, bar=1.40, how=f"formula / floor, {shape}")
    yield Figure(
        id="encode_l2_bf16",
        value=l2,
        bar=1.05 * gemm,
        how=f"formula / floor, {shape}; bar from GEMM",
    )
    dram = _encode_bytes(4, single, random)[0]
    yield Figure(id="encode_dram_fp32", value=dram, bar=1.20, how=f"formula / floor, {shape}")


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
        with interpreter(), metering() as traffic:
            first = sparse_gradients(codes, grad, x, decoder)
        used = codes.indices.unique().numel()
        floor = 4 * (
            2 * rows * width + used * width + 3 * rows * k + 2 * features * width + features
        )
        how = f"meter / floor, {rows} x {width}, {features} features, k={k}; torch's sort included"
        yield Figure(id=name, value=traffic.dram / floor, bar=bar, how=how)
        if name == "backward_dram":
            yield Figure(id="atomics", value=traffic.atomics, bar=0, how=how)
            with interpreter(), shuffled(1):
                second = sparse_gradients(codes, grad, x, decoder)
            same = all(
                torch.equal(getattr(first, part), getattr(second, part))
                for part in ("values", "decoder", "encoder", "encoder_bias")
            )
            yield Figure(id="schedule_bits", value=float(same), bar=1, how="1: equal bits")


def wrong_figures() -> Iterator[Figure]:
    """Rows that are wrong though the certificate held, in a simulation of the kernels' steps."""
    config = EncodeConfig(
        rows=16, columns=32, tiles=2, kept=8, depth=16, warps=4, stages=2, repair_rows=16
    )
    features, k, wrong, rows = 2048, 32, 0, 0
    generator = torch.Generator().manual_seed(0)
    programs = features // 64
    for n in range(100):
        pre = torch.randn(1024, features, generator=generator)
        if n % 4 == 1:
            pre = pre.round()  # ties
        elif n % 4 == 2:
            pre[:, ::programs] += 2.0  # winners crowd one program
        elif n % 4 == 3:
            pre += torch.linspace(2, -2, features)
        flagged = hidden_rows(pre.clone(), k, config)
        tiles = pre.view(1024, -1, programs)
        least = tiles.topk(config.kept, dim=1).values[:, -1:]
        visible = torch.where(tiles >= least, tiles, -1.0).view(1024, features)
        wanted, found = (
            torch.sort(p.relu(), dim=1, descending=True, stable=True).indices[:, :k]
            for p in (pre, visible)
        )
        wrong += int(((wanted != found).any(1) & ~flagged).sum())
        rows += 1024
    how = f"simulated selection without repair, {rows} rows: wrong and not flagged"
    yield Figure(id="wrong_rows", value=wrong, bar=0, how=how)


def _interleaved(rounds: int, **functions: Callable[[], object]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def cpu_figures() -> Iterator[Figure]:
    """Step and selection against torch's GEMM and top-k on this machine."""
    torch.set_num_threads(2)
    rows, width = 2048, WIDTH
    for name, features, bar in (("cpu_step_6k", 6144, 2.0), ("cpu_step_24k", 24_576, 1.45)):
        torch.manual_seed(0)
        directions = torch.nn.functional.normalize(torch.randn(features, width))
        weights = Weights(
            encoder=directions.clone(),
            encoder_bias=torch.zeros(features),
            decoder=directions,
            decoder_bias=torch.zeros(width),
        )
        moments, scratch = Moments.zeros_like(weights), Workspace()
        x, out = torch.randn(rows, width), torch.empty(rows, features)
        chosen = StepSettings(k=K, learning_rate=1e-4, variance=float(width))

        def step(
            x: Tensor = x,
            weights: Weights = weights,
            moments: Moments = moments,
            chosen: StepSettings = chosen,
            scratch: Workspace = scratch,
        ) -> object:
            return train_step_topk(x, weights, moments, chosen, step=1, workspace=scratch)

        def gemm(x: Tensor = x, weights: Weights = weights, out: Tensor = out) -> Tensor:
            return torch.mm(x, weights.encoder.T, out=out)

        found = _interleaved(5, step=step, gemm=gemm)
        how = f"step / encoder GEMM, {rows} x {width}, k={K}, {torch.get_num_threads()} threads"
        yield Figure(id=name, value=found["step"] / found["gemm"], bar=bar, how=how)
        if features == 24_576:
            held = scratch.nbytes / 2**20
            yield Figure(id="cpu_memory", value=held, bar=64, how="MiB of scratch held by a step")
    for name, features, bar in (
        ("cpu_topk_3k", 3072, 2.5),
        ("cpu_topk_12k", 12_288, 3.0),
        ("cpu_topk_24k", 24_576, 3.5),
    ):
        pre = torch.randn(1024, features)
        values, indices = torch.zeros(1024, K), torch.zeros(1024, K, dtype=torch.int32)

        def select(pre: Tensor = pre, values: Tensor = values, indices: Tensor = indices) -> None:
            values.zero_()
            merge_all(pre, pre.shape[1], 0, values, indices)
            fill_topk(values, indices)

        def topk(pre: Tensor = pre) -> object:
            return pre.topk(K, dim=1)

        found = _interleaved(9, select=select, topk=topk)
        how = f"torch.topk / selection, 1024 x {features}, k={K}"
        yield Figure(id=name, value=found["topk"] / found["select"], bar=bar, how=how)


FIGURES = {
    "encode": encode_figures,
    "backward": backward_figures,
    "wrong": wrong_figures,
    "cpu": cpu_figures,
}


def main(arguments: list[str]) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--only", choices=FIGURES, help="one group of figures")
    chosen = parser.parse_args(arguments)
    for group, figures in FIGURES.items():
        if chosen.only not in (None, group):
            continue
        for figure in figures():
            if chosen.json:
                print(json.dumps({**asdict(figure), "load": os.getloadavg()[0]}), flush=True)
            else:
                bar = "" if figure.bar is None else f"(bar {figure.bar:.3g})"
                print(f"{figure.id:20s} {figure.value:10.4g} {bar:14s} {figure.how}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
