"""Fused sparse encode, decode and gradients: tensors in, tensors out.

Each operation looks at the device of its tensors at every call and picks its own path.
``reference`` holds the same mathematics in plain torch. Nothing heavy is imported until a name is
used.
No module here is named as a public function: importing it would hide the function.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.kernels.aux_codes import AuxCodes, encode_topk_aux
    from isogloss.kernels.batch_topk import BatchCodes, encode_batch_topk
    from isogloss.kernels.coactivation_sums import (
        coactivation,
        coactivation_blocks,
        feature_moments,
    )
    from isogloss.kernels.coactivation_types import Coactivation, FeatureMoments, PairSums
    from isogloss.kernels.codes import Codes
    from isogloss.kernels.debug_mode import debugging
    from isogloss.kernels.encode import encode_topk
    from isogloss.kernels.gradients import SparseGradients, sparse_gradients
    from isogloss.kernels.prefixes import decode_prefixes
    from isogloss.kernels.reconstruct import Residual, decode, decode_loss
    from isogloss.kernels.step_types import Moments, StepResult, StepSettings, Weights
    from isogloss.kernels.threshold import Repairs, encode_threshold
    from isogloss.kernels.train_step import train_step_topk
    from isogloss.kernels.workspace import Workspace

__all__ = [
    "AuxCodes",
    "BatchCodes",
    "Coactivation",
    "Codes",
    "FeatureMoments",
    "Moments",
    "PairSums",
    "Repairs",
    "Residual",
    "SparseGradients",
    "StepResult",
    "StepSettings",
    "Weights",
    "Workspace",
    "coactivation",
    "coactivation_blocks",
    "debugging",
    "decode",
    "decode_loss",
    "decode_prefixes",
    "encode_batch_topk",
    "encode_threshold",
    "encode_topk",
    "encode_topk_aux",
    "feature_moments",
    "sparse_gradients",
    "train_step_topk",
]

_HOMES = {
    "AuxCodes": "isogloss.kernels.aux_codes",
    "BatchCodes": "isogloss.kernels.batch_topk",
    "Coactivation": "isogloss.kernels.coactivation_types",
    "Codes": "isogloss.kernels.codes",
    "FeatureMoments": "isogloss.kernels.coactivation_types",
    "Moments": "isogloss.kernels.step_types",
    "PairSums": "isogloss.kernels.coactivation_types",
    "Repairs": "isogloss.kernels.threshold",
    "Residual": "isogloss.kernels.reconstruct",
    "SparseGradients": "isogloss.kernels.gradients",
    "StepResult": "isogloss.kernels.step_types",
    "StepSettings": "isogloss.kernels.step_types",
    "Weights": "isogloss.kernels.step_types",
    "Workspace": "isogloss.kernels.workspace",
    "coactivation": "isogloss.kernels.coactivation_sums",
    "coactivation_blocks": "isogloss.kernels.coactivation_sums",
    "debugging": "isogloss.kernels.debug_mode",
    "decode": "isogloss.kernels.reconstruct",
    "decode_loss": "isogloss.kernels.reconstruct",
    "decode_prefixes": "isogloss.kernels.prefixes",
    "encode_batch_topk": "isogloss.kernels.batch_topk",
    "encode_threshold": "isogloss.kernels.threshold",
    "encode_topk": "isogloss.kernels.encode",
    "encode_topk_aux": "isogloss.kernels.aux_codes",
    "feature_moments": "isogloss.kernels.coactivation_sums",
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
