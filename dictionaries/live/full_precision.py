"""Sums of a dictionary are float32, also where a model's pass runs under autocast."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Return a context within which products on the device of a tensor keep their dtype.

    Without it a pass under ``torch.autocast`` would multiply the dictionary in bfloat16, so that
    other features fire than those that were trained, recorded and matched.
    """
    return torch.autocast(like.device.type, enabled=False)
