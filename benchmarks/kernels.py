"""Figures of the kernels: counted bytes (no GPU needed), exactness, and times on this CPU.

``python benchmarks/kernels.py [--json] [--only GROUP]``: each figure as it comes; with ``--json`` a
line each on stderr, and one document on stdout. Ends with 1 where a bar is missed.
Bytes come from formulas that tests/kernels/testing/test_budgets.py checks against the traffic
meter, or from the meter itself. Times are ratios of medians of interleaved rounds, two threads: run
on a quiet machine. Those of a device come from ``benchmarks/device.py``; without one they have no
value, and say why.
``--real-rows N``: how many rows of [wrong_rows] go through the kernels themselves, some 10 ms each.
"""

import argparse
import contextlib
import ctypes
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")

sys.path.insert(0, str(Path(__file__).parent))  # whatever PYTHONSAFEPATH says

import torch
from house_figures.figure import show
from kernels_figures.captured import captured_figures
from kernels_figures.counted import (
    FEATURES,
    ROWS,
    WIDTH,
    K,
    backward_figures,
    encode_figures,
    encode_ratios,
    hidden_programs,
    hiding_of,
    wrong_figures,
)
from kernels_figures.device import device_figures
from kernels_figures.figure import Figure
from kernels_figures.work import work_figures
from scipy import sparse
from torch import Tensor

from isogloss.kernels import (
    AdamMoments,
    Codes,
    StepSettings,
    Weights,
    Workspace,
    coactivation,
    train_step_topk,
)
from isogloss.kernels.cpu.loops.select import fill_topk, merge_all
from isogloss.kernels.gpu.aux_topk import two_lists
from isogloss.kernels.gpu.configs import ENCODE_HALF, EncodeConfig, fitted


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
    yield from _step_figures("cpu_step_6k", 6144, 2.0)
    yield from _step_figures("cpu_step_24k", 24_576, 1.45)
    yield from _topk_figures()


def _step_figures(name: str, features: int, bar: float) -> Iterator[Figure]:
    """A full training step beside the encoder's GEMM alone, and sparsify's if it is installed."""
    rows, width = 2048, WIDTH
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(features, width))
    weights = Weights(
        encoder=directions.clone(),
        encoder_bias=torch.zeros(features),
        decoder=directions,
        decoder_bias=torch.zeros(width),
    )
    moments, scratch = AdamMoments.zeros_like(weights), Workspace()
    x, out = torch.randn(rows, width), torch.empty(rows, features)
    chosen = StepSettings(k=K, learning_rate=1e-4, variance=float(width))

    def step() -> None:
        train_step_topk(x, weights, moments, chosen, step=1, workspace=scratch)

    def gemm() -> None:
        torch.mm(x, weights.encoder.T, out=out)

    peer = _sparsify_step(x, features)
    found = _interleaved(5, step=step, gemm=gemm, **({} if peer is None else {"peer": peer}))
    yield Figure(
        id=name,
        value=found["step"] / found["gemm"],
        bar=bar,
        how=f"step / encoder GEMM, {rows} x {width}, k={K}, {torch.get_num_threads()} threads",
        peers={}
        if peer is None
        else {"sparsify, forward and backward only": found["peer"] / found["gemm"]},
        runs=5,
    )
    if name == "cpu_step_24k":
        extra = _peak_mib(
            lambda: train_step_topk(x, weights, moments, chosen, step=1, workspace=Workspace())
        )
        text = "peak of the process in a step with a new workspace, beyond what it held before"
        yield Figure(id="cpu_memory", value=extra, bar=64, how=text, unit="MiB")


def _sparsify_step(x: Tensor, features: int) -> Callable[[], object] | None:
    """Loss and gradients by sparsify on the CPU (``pip install eai-sparsify``); None without it."""
    os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
    try:
        sparsify = importlib.import_module("sparsify")
    except ImportError:
        return None
    coder = sparsify.SparseCoder(
        x.shape[1],
        sparsify.SparseCoderConfig(num_latents=features, k=K),
        device="cpu",
        dtype=torch.float32,
    )

    def step() -> None:
        coder.zero_grad(set_to_none=True)
        coder(x).fvu.backward()

    return step


def _peak_mib(work: Callable[[], object]) -> float:
    """How much more memory than before this process held at most while ``work`` ran."""
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that is kept would be used again unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _status_kib("VmRSS")
    work()
    return (_status_kib("VmHWM") - before) / 1024


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _topk_figures() -> Iterator[Figure]:
    """Selection alone beside ``torch.topk``."""
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
        yield Figure(
            id=name,
            value=found["topk"] / found["select"],
            bar=bar,
            how=how,
            at_most=False,
            unit="times as fast",
            peers={"torch.topk": 1.0},
            runs=9,
        )


def aux_figures() -> Iterator[Figure]:
    """Bytes of both code sets of AuxK from one pass, and of two passes; reported without bars."""
    aux_k, size = 512, 2
    for percent in (10, 50):
        masked = FEATURES * percent // 100
        tile, kept = two_lists(ENCODE_HALF, K, aux_k, masked, FEATURES)
        programs = -(-FEATURES // (tile.columns * tile.tiles))
        hidden = _aux_repairs(tile, kept, aux_k, masked)
        again = sum(hidden) / 2048 * ROWS * tile.columns * tile.tiles * WIDTH * size
        inputs = (ROWS + FEATURES) * WIDTH * size + FEATURES * 4
        out = ROWS * (K + aux_k) * 8
        both = inputs + 4 * FEATURES + 12 * ROWS * programs * (tile.kept + kept) + out + again
        floor = inputs + 4 * FEATURES + out
        shape = f"{ROWS} x {WIDTH} -> {FEATURES}, k={K}, aux_k={aux_k} of {masked}"
        part = fitted(ENCODE_HALF, aux_k, masked)
        lists = 12 * ROWS * -(-masked // (part.columns * part.tiles)) * part.kept
        second = (3 * masked + ROWS) * WIDTH * size + lists + ROWS * aux_k * 8
        first = encode_ratios(size, fitted(ENCODE_HALF, K, FEATURES), _nothing_hidden())[0]
        yield Figure(
            id=f"aux_dram_bf16_{percent}",
            value=both / floor,
            bar=None,
            how=f"one pass, formula / floor, {shape}; rows repaired of 2048: {hidden}",
            peers={
                "masked rows gathered and encoded again, without repairs": (
                    first * (inputs + ROWS * K * 8) + second
                )
                / floor
            },
        )


def _nothing_hidden() -> Tensor:
    tile = fitted(ENCODE_HALF, K, FEATURES)
    programs = -(-FEATURES // (tile.columns * tile.tiles))
    return torch.zeros(ROWS, programs, dtype=torch.bool)


def _aux_repairs(tile: EncodeConfig, kept: int, aux_k: int, masked: int) -> tuple[int, int]:
    """Of 2,048 rows of Gaussian pre-activations, those that either list repairs."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.randperm(FEATURES, generator=generator) < masked
    found = [0, 0]
    for _ in range(4):
        pre = torch.randn(512, FEATURES, generator=generator)
        found[0] += int(hidden_programs(pre, K, tile).any(1).sum())
        pre[:, ~mask] = -1.0
        found[1] += int(hidden_programs(pre, aux_k, replace(tile, kept=kept)).any(1).sum())
    return found[0], found[1]


def crosscoder_figures() -> Iterator[Figure]:
    """A crosscoder over four sites of 192 as one dictionary of width 768; reported without bars."""
    sites, width, size = 4, WIDTH // 4, 2
    tile = fitted(ENCODE_HALF, K, FEATURES)
    hiding = hiding_of(False, 4096, tile)
    floor = (ROWS * WIDTH + FEATURES * WIDTH) * size + FEATURES * 4 + ROWS * K * 8
    joining = 2 * ROWS * WIDTH * size  # the sites are read, and written side by side
    yield Figure(
        id="crosscoder_dram_bf16",
        value=encode_ratios(size, tile, hiding)[0] + joining / floor,
        bar=None,
        how=f"encode of {sites} sites x {width}, {ROWS} rows -> {FEATURES}, formula / floor; "
        "the copy that joins the sites included",
    )
    torch.set_num_threads(2)
    torch.manual_seed(0)
    rows, features = 2048, 6144
    directions = torch.nn.functional.normalize(torch.randn(features, WIDTH))
    weights = Weights(
        encoder=directions.clone(),
        encoder_bias=torch.zeros(features),
        decoder=directions,
        decoder_bias=torch.zeros(WIDTH),
    )
    moments, scratch = AdamMoments.zeros_like(weights), Workspace()
    parts = [torch.randn(rows, width) for _ in range(sites)]
    encoders = [part.contiguous() for part in weights.encoder.split(width, dim=1)]
    out, joined = torch.empty(rows, features), torch.empty(rows, WIDTH)
    chosen = StepSettings(k=K, learning_rate=1e-4, variance=float(WIDTH))

    def step() -> object:
        torch.cat(parts, dim=1, out=joined)
        return train_step_topk(joined, weights, moments, chosen, step=1, workspace=scratch)

    def gemms() -> None:
        out.zero_()
        for part, encoder in zip(parts, encoders, strict=True):
            out.addmm_(part, encoder.T)

    found = _interleaved(5, step=step, gemms=gemms)
    yield Figure(
        id="cpu_step_crosscoder",
        runs=5,
        value=found["step"] / found["gemms"],
        bar=None,
        how=f"step, joining included / the encoder GEMM of each site, {rows} rows, {sites} sites x "
        f"{width} -> {features}, k={K}, {torch.get_num_threads()} threads",
    )


def _fired(rows: int, features: int, k: int, seed: int) -> Codes:
    """Codes whose features fire by a power law of their (shuffled) number."""
    generator = torch.Generator().manual_seed(seed)
    share = 1 / (torch.randperm(features, generator=generator) + 20.0) ** 0.7
    indices = torch.multinomial(share.expand(rows, features), k, generator=generator)
    values = torch.rand(rows, k, generator=generator) + 0.1
    return Codes(values=values, indices=indices.int(), features=features)


def coactivation_figures() -> Iterator[Figure]:
    """Best two partners of every feature, against a sparse and a dense product with their top."""
    torch.set_num_threads(2)
    rows, features, count = 16_384, 6144, 2
    a, b = (_fired(rows, features, K, seed) for seed in (0, 1))
    starts = (torch.arange(rows + 1) * K).numpy()
    matrices = [
        sparse.csr_array(
            (one.values.double().view(-1).numpy(), one.indices.view(-1).numpy(), starts),
            shape=(rows, features),
        )
        for one in (a, b)
    ]
    by_feature = matrices[0].T.tocsr()
    dense = [
        torch.zeros(rows, features).scatter_(1, one.indices.long(), one.values) for one in (a, b)
    ]

    def ours() -> object:
        return coactivation(a, b, count=count)

    def by_scipy() -> object:
        return by_feature @ matrices[1]

    def by_torch() -> object:
        tops: list[Tensor] = []
        for start in range(0, features, 1024):
            products = dense[0][:, start : start + 1024].T @ dense[1]
            tops.append(products.topk(count, dim=1).indices)
        return tops

    found = _interleaved(3, ours=ours, scipy=by_scipy, torch=by_torch)
    how = f"{rows} rows, k={K}, {features} features each, top {count}, 2 threads"
    yield Figure(
        id="coactivation_cpu",
        runs=3,
        value=found["scipy"] / found["ours"],
        bar=None,
        how=f"scipy's sparse float64 product alone (no correlations, no top; one thread) / "
        f"coactivation; {how}",
    )
    yield Figure(
        id="coactivation_cpu_dense",
        runs=3,
        value=found["torch"] / found["ours"],
        bar=None,
        how=f"torch's dense float32 product and top-k / coactivation; {how}",
    )


FIGURES: dict[str, Callable[[], Iterator[Figure | dict[str, object]]]] = {
    "encode": encode_figures,
    "backward": backward_figures,
    "wrong": wrong_figures,
    "cpu": cpu_figures,
    "aux": aux_figures,
    "crosscoder": crosscoder_figures,
    "coactivation": coactivation_figures,
    "captured": captured_figures,
    "work": work_figures,
    "device": device_figures,
}


def main(arguments: list[str]) -> int:
    """Print the figures; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document, when all is done")
    parser.add_argument("--only", choices=FIGURES, help="one group of figures")
    parser.add_argument("--real-rows", type=int, default=1024, help="see [wrong_rows]")
    chosen = parser.parse_args(arguments)
    figures = _chosen_figures(chosen.only, chosen.real_rows)
    if not chosen.json:
        return show(figures, is_json=False)
    found: list[dict[str, object]] = []
    with contextlib.redirect_stdout(sys.stderr):  # peers print there when they are imported
        for figure in figures:
            found.append(figure)
            print(figure["figure"], figure["value"], figure["holds"], flush=True)
    return show(found, is_json=True)


def _chosen_figures(only: str | None, real_rows: int) -> Iterator[dict[str, object]]:
    for group, figures in FIGURES.items():
        if only in (None, group):
            for figure in wrong_figures(real_rows) if group == "wrong" else figures():
                yield figure.to_dict() if isinstance(figure, Figure) else figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
