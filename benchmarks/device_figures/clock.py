"""Times on a device: events, the L2 cache flushed before each run, the host, graphs, kernels."""

import statistics
import time
from collections.abc import Callable

import torch

from device_figures.records import Scene

_FLUSH_BYTES = 256 << 20
_scratch: list[torch.Tensor] = []


def seconds(scene: Scene, call: Callable[[], object], budget_s: float = 0.4) -> float:
    """Median seconds of a call by the device's clock, after runs that are not timed.

    Args:
        scene: where; dry, two runs by the clock on the wall.
        call: what is timed.
        budget_s: how long all runs together may take, about.

    Returns:
        Seconds.
    """
    call()
    if scene.is_warming:
        return 1.0
    if scene.is_dry:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    if not _scratch:
        _scratch.append(torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=scene.device))
    call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    runs = max(3, min(30, int(budget_s / max(1e-5, time.perf_counter() - start))))
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(runs)]
    for first, last in marks:
        _scratch[0].zero_()
        first.record()
        call()
        last.record()
    torch.cuda.synchronize()
    return statistics.median(first.elapsed_time(last) for first, last in marks) / 1e3


def host_seconds(scene: Scene, call: Callable[[], object], runs: int = 30) -> float | None:
    """Seconds of the host in a call, the device's queue not waited for."""
    if scene.is_dry or scene.is_warming:
        return None
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(runs):
        call()
    taken = (time.perf_counter() - start) / runs
    torch.cuda.synchronize()
    return taken


def take(
    scene: Scene,
    name: str,
    call: Callable[[], object],
    *,
    beside: float | None = None,
    operations: int = 0,
    has_host: bool = False,
) -> float | None:
    """Time a call and write it down; what it raises is written too.

    Args:
        scene: where.
        name: of the record.
        call: what is timed.
        beside: seconds of what it is compared with.
        operations: multiplications and additions, for a rate.
        has_host: whether the host's time is taken as well.

    Returns:
        Seconds; None where the call raised.
    """
    found: list[float] = []

    def work() -> None:
        found.append(seconds(scene, call))
        fields: dict[str, object] = {"ms": found[0] * 1e3}
        if beside:
            fields["over_gemm"] = found[0] / beside
        if operations:
            fields["tflops"] = operations / found[0] / 1e12
        if has_host:
            taken = host_seconds(scene, call)
            fields["host_ms"] = None if taken is None else taken * 1e3
        scene.note(name, **fields)

    scene.attempt(name, work)
    return found[0] if found else None


def kernels(scene: Scene, name: str, call: Callable[[], object]) -> None:
    """Write down how a call's time divides among its kernels, by torch's profiler."""
    if scene.is_dry or scene.is_warming:
        return

    def work() -> None:
        call()
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            call()
            torch.cuda.synchronize()
        events = [event for event in seen.key_averages() if event.device_time_total > 0]
        parts = sorted(((round(e.device_time_total, 1), e.key[:60]) for e in events), reverse=True)
        scene.note(f"{name}, us by kernel", parts=parts[:14], launches=sum(e.count for e in events))

    scene.attempt(f"{name}, us by kernel", work)


def replay(scene: Scene, name: str, call: Callable[[], object]) -> None:
    """Capture a call in a graph and time its replay; a call that cannot be captured is named."""
    if scene.is_dry or scene.is_warming:
        call()
        return
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            call()
    except RuntimeError as error:
        scene.note(f"{name}, replay of a graph", ms=None, why=str(error)[:200])
        return
    take(scene, f"{name}, replay of a graph", graph.replay)
