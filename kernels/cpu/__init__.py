"""The operations on the CPU: numba's loops beside torch's GEMM. A file loads when first used.

``cpu.decode`` imports ``isogloss.kernels.cpu.decode``, and numba with it, at the first access. So a
process that never computes on the CPU never waits for numba.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.kernels.cpu import (
        adam,
        aux_topk,
        batch_topk,
        coactivation,
        decode,
        descend,
        encode,
        gradients,
        prefixes,
        screen,
        step,
        threshold,
    )

__all__ = [
    "adam",
    "aux_topk",
    "batch_topk",
    "coactivation",
    "decode",
    "descend",
    "encode",
    "gradients",
    "prefixes",
    "screen",
    "step",
    "threshold",
]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; files: {__all__}")
    return import_module(f"{__name__}.{name}")
