"""The operations on CUDA and ROCm, by Triton. A file loads when first used.

``gpu.decode`` imports ``isogloss.kernels.gpu.decode``, and triton with it, at the first access: on
machines without a device, and where triton does not exist, nobody asks for it.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.kernels.gpu import (
        aux_topk,
        batch_topk,
        coactivation,
        decode,
        encode,
        gradients,
        prefixes,
        threshold,
    )

__all__ = [
    "aux_topk",
    "batch_topk",
    "coactivation",
    "decode",
    "encode",
    "gradients",
    "prefixes",
    "threshold",
]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; files: {__all__}")
    return import_module(f"{__name__}.{name}")
