"""Fused sparse encode, decode and gradients: tensors in, tensors out.

Each operation looks at the device of its tensors at every call and picks its own path.
``reference`` holds the same mathematics in plain torch. Nothing heavy is imported until a name is
used.
No module here is named as a public function: importing it would hide the function.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.kernels.codes import Codes
    from isogloss.kernels.encode import encode_topk
    from isogloss.kernels.gradients import SparseGradients, sparse_gradients
    from isogloss.kernels.reconstruct import Residual, decode, decode_loss
    from isogloss.kernels.step_types import Moments, StepResult, StepSettings, Weights
    from isogloss.kernels.train_step import train_step_topk
    from isogloss.kernels.workspace import Workspace

__all__ = [
    "Codes",
    "Moments",
    "Residual",
    "SparseGradients",
    "StepResult",
    "StepSettings",
    "Weights",
    "Workspace",
    "decode",
    "decode_loss",
    "encode_topk",
    "sparse_gradients",
    "train_step_topk",
]

_HOMES = {
    "Codes": "isogloss.kernels.codes",
    "Moments": "isogloss.kernels.step_types",
    "Residual": "isogloss.kernels.reconstruct",
    "SparseGradients": "isogloss.kernels.gradients",
    "StepResult": "isogloss.kernels.step_types",
    "StepSettings": "isogloss.kernels.step_types",
    "Weights": "isogloss.kernels.step_types",
    "Workspace": "isogloss.kernels.workspace",
    "decode": "isogloss.kernels.reconstruct",
    "decode_loss": "isogloss.kernels.reconstruct",
    "encode_topk": "isogloss.kernels.encode",
    "sparse_gradients": "isogloss.kernels.gradients",
    "train_step_topk": "isogloss.kernels.train_step",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public: {__all__}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
