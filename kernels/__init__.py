"""Fused sparse encode, decode and gradients: tensors in, tensors out.

Each operation looks at the device of its tensors at every call and picks its own path.
``reference`` holds the same mathematics in plain torch. Nothing heavy is imported until a name is
used. README.md maps the folder.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from isogloss.errors import load_name

if TYPE_CHECKING:
    from isogloss.kernels.adam import adam_step
    from isogloss.kernels.arguments.debug_mode import debugging
    from isogloss.kernels.aux_topk import AuxCodes, encode_topk_aux
    from isogloss.kernels.batch_topk import BatchCodes, encode_batch_topk
    from isogloss.kernels.coactivation import (
        coactivation,
        coactivation_blocks,
        feature_moments,
    )
    from isogloss.kernels.decode import Residual, decode, decode_loss
    from isogloss.kernels.descend import descend_entries
    from isogloss.kernels.encode import encode_topk
    from isogloss.kernels.gradients import (
        SparseGradients,
        feature_sums,
        sparse_gradients,
        value_slopes,
    )
    from isogloss.kernels.prefixes import decode_prefixes
    from isogloss.kernels.product import product
    from isogloss.kernels.screen import (
        make_screen,
        screen_threshold,
        screen_topk,
        screening_pays,
        take_features,
    )
    from isogloss.kernels.step import train_step_batch_topk, train_step_topk
    from isogloss.kernels.threshold import Repairs, encode_threshold
    from isogloss.kernels.values.coactivation import Coactivation, FeatureMoments, PairSums
    from isogloss.kernels.values.codes import Codes
    from isogloss.kernels.values.descent import DescentSettings, EntryGradients
    from isogloss.kernels.values.screen import EncoderScreen
    from isogloss.kernels.values.share import RowShare, own_part, parts_of, whole_codes
    from isogloss.kernels.values.step import (
        AdamMoments,
        StepResult,
        StepSettings,
        Weights,
        inside_columns,
    )
    from isogloss.kernels.values.workspace import Workspace

__all__ = [
    "AdamMoments",
    "AuxCodes",
    "BatchCodes",
    "Coactivation",
    "Codes",
    "DescentSettings",
    "EncoderScreen",
    "EntryGradients",
    "FeatureMoments",
    "PairSums",
    "Repairs",
    "Residual",
    "RowShare",
    "SparseGradients",
    "StepResult",
    "StepSettings",
    "Weights",
    "Workspace",
    "adam_step",
    "coactivation",
    "coactivation_blocks",
    "debugging",
    "decode",
    "decode_loss",
    "decode_prefixes",
    "descend_entries",
    "encode_batch_topk",
    "encode_threshold",
    "encode_topk",
    "encode_topk_aux",
    "feature_moments",
    "feature_sums",
    "inside_columns",
    "make_screen",
    "own_part",
    "parts_of",
    "product",
    "screen_threshold",
    "screen_topk",
    "screening_pays",
    "sparse_gradients",
    "take_features",
    "train_step_batch_topk",
    "train_step_topk",
    "value_slopes",
    "whole_codes",
]

_FILES = {
    "AdamMoments": "values.step",
    "AuxCodes": "aux_topk",
    "BatchCodes": "batch_topk",
    "Coactivation": "values.coactivation",
    "Codes": "values.codes",
    "DescentSettings": "values.descent",
    "EncoderScreen": "values.screen",
    "EntryGradients": "values.descent",
    "FeatureMoments": "values.coactivation",
    "PairSums": "values.coactivation",
    "Repairs": "threshold",
    "Residual": "decode",
    "RowShare": "values.share",
    "SparseGradients": "gradients",
    "StepResult": "values.step",
    "StepSettings": "values.step",
    "Weights": "values.step",
    "Workspace": "values.workspace",
    "adam_step": "adam",
    "coactivation": "coactivation",
    "coactivation_blocks": "coactivation",
    "debugging": "arguments.debug_mode",
    "decode": "decode",
    "decode_loss": "decode",
    "decode_prefixes": "prefixes",
    "descend_entries": "descend",
    "encode_batch_topk": "batch_topk",
    "encode_threshold": "threshold",
    "encode_topk": "encode",
    "encode_topk_aux": "aux_topk",
    "feature_moments": "coactivation",
    "feature_sums": "gradients",
    "inside_columns": "values.step",
    "make_screen": "screen",
    "screen_threshold": "screen",
    "screen_topk": "screen",
    "screening_pays": "screen",
    "own_part": "values.share",
    "parts_of": "values.share",
    "product": "product",
    "sparse_gradients": "gradients",
    "take_features": "screen",
    "train_step_batch_topk": "step",
    "train_step_topk": "step",
    "value_slopes": "gradients",
    "whole_codes": "values.share",
}
"""The file that defines each public name."""


def __getattr__(name: str) -> object:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public: {__all__}")
    return load_name(f"{__name__}.{_FILES[name]}", name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Room(ModuleType):
    """This package, in which the functions ``decode`` and ``coactivation`` keep their names.

    Python sets an imported file as an attribute of its package. ``decode.py`` would take the place
    of the function ``decode``, so files named as a public function are not set.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _FILES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
