"""Measure the best that a device can do: the rate of a copy and of a GEMM."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

_COPY_BYTES = 1 << 30
_GEMM = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceilings:
    """Rates of a device."""

    device: str
    """Its name, as torch gives it."""
    bytes_per_s: float
    """Bytes read and written by a copy of 1 GiB."""
    flops_per_s: dict[str, float]
    """Operations of a square GEMM of 8,192, by dtype; TF32 is off."""

    def least_s(self, moved: float, operations: float, dtype: torch.dtype) -> float:
        """Return the shortest time that both rates allow."""
        return max(moved / self.bytes_per_s, operations / self.flops_per_s[str(dtype)])


def measure(device: torch.device) -> Ceilings:
    """Measure a CUDA or ROCm device; takes about a second."""
    source = torch.zeros(_COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copied = time_on_device(lambda: target.copy_(source))
    flops: dict[str, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        square = torch.ones(_GEMM, _GEMM, device=device, dtype=dtype)
        out = torch.empty_like(square)
        taken = time_on_device(lambda a=square, b=out: torch.mm(a, a, out=b))
        flops[str(dtype)] = 2 * _GEMM**3 / taken
    return Ceilings(
        device=torch.cuda.get_device_name(device),
        bytes_per_s=2 * _COPY_BYTES / copied,
        flops_per_s=flops,
    )


def time_on_device(function: Callable[[], object], runs: int = 20) -> float:
    """Median seconds of ``function`` by the device's own clock, after 3 runs that are not timed."""
    for _ in range(3):
        function()
    times: list[float] = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)
