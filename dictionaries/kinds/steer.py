"""How many features fire: where biases start for it, and a penalty's weight that is steered to it.

A penalty on firing fixes a price, not how many features fire: that depends on the rows, so that
each site would want a search of its own. Here the weight moves a little at each step, up while more
features fire than are asked for, down while fewer do.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist

import torch
from torch import Tensor

_NAME = "log_weight"
_GAIN, _GREATEST_GAIN, _TRAVEL = 0.02, 0.1, 16.0
_STEEPEST = 1.0
START_SHARE = 4.0
"""A run starts with so many times the features on a row that are asked for. JumpReLU on MiniLM-L6,
layer 2, 1,024 features, a target of 32: 32.6 features a row, FVU 0.193, 0.2 % dead; started with 32
it ended with 20.3, 0.219 and 3.6 % (docs/design/025)."""


def first_threshold(fires: float, features: int) -> float:
    """Return the pre-activation above which ``fires`` of the features lie, if they are normal.

    Those of scaled rows and random directions of norm 1 nearly are standard normal.
    """
    return NormalDist().inv_cdf(1 - min(0.4, fires / features))


def start_weight(weight: float) -> dict[str, Tensor]:
    """Return the state of a weight that is steered, for :meth:`Kind.start`."""
    return {_NAME: torch.tensor(math.log(weight), dtype=torch.float64)}


def steered_weight(tensors: Mapping[str, Tensor]) -> float:
    """Return the weight now."""
    return math.exp(float(tensors[_NAME]))


def steer(
    tensors: Mapping[str, Tensor], l0: float, target: float, step: int, total_steps: int
) -> None:
    """Move the weight by what fired at a step, in place.

    ``log w += g (1 - step / total) clip(log(L0 / target), -1, 1)`` with ``g = 16 / total``, between
    0.02 and 0.1, so that short runs get there too: less and less, because the learning rate falls,
    and with it what the weight can still change.

    Args:
        tensors: of the run.
        l0: features that fired on a row of this step's batch, on average.
        target: how many are asked for.
        step: number of the step, from 1.
        total_steps: of the run.
    """
    off = math.log(max(l0, 1e-3) / target)
    gain = min(max(_GAIN, _TRAVEL / total_steps), _GREATEST_GAIN) * (1 - step / total_steps)
    tensors[_NAME].add_(gain * min(max(off, -_STEEPEST), _STEEPEST))
