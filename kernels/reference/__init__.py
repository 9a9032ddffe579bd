"""The mathematics of every operation in plain torch: dense, obvious, in any floating dtype.

The tests trust it. No operation falls back to it; only the optimiser's equations in ``step.py`` are
used elsewhere, by the training step for devices without a fused one.
"""

from isogloss.kernels.reference.aux_topk import encode_topk_aux
from isogloss.kernels.reference.batch_topk import encode_batch_topk
from isogloss.kernels.reference.coactivation import best_partners, dense, jaccard, pearson
from isogloss.kernels.reference.decode import decode, decode_ragged
from isogloss.kernels.reference.encode import encode_topk
from isogloss.kernels.reference.gradients import sparse_gradients
from isogloss.kernels.reference.prefixes import decode_prefixes
from isogloss.kernels.reference.step import (
    AdamSettings,
    TopKLoss,
    adam,
    normalise_rows,
    project_rows,
    topk_loss,
)
from isogloss.kernels.reference.threshold import encode_threshold

__all__ = [
    "AdamSettings",
    "TopKLoss",
    "adam",
    "best_partners",
    "decode",
    "decode_prefixes",
    "decode_ragged",
    "dense",
    "encode_batch_topk",
    "encode_threshold",
    "encode_topk",
    "encode_topk_aux",
    "jaccard",
    "normalise_rows",
    "pearson",
    "project_rows",
    "sparse_gradients",
    "topk_loss",
]
