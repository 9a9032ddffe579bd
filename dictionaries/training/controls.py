"""Controls: dictionaries of which a part is held to its random start.

"Sanity checks for sparse autoencoders" (arXiv 2602.14111): a figure says what was learned only
beside that of a dictionary which could not learn it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from isogloss.dictionaries.config import ControlName, TrainConfig
from isogloss.errors import InvalidInput

CONTROLS: tuple[ControlName, ...] = get_args(ControlName)
"""Names of the controls there are."""
SOFT_COSINE = 0.8
"""Least cosine of a soft-frozen decoder row to its start."""
_TINY = 1e-30


def with_controls(config: TrainConfig) -> list[TrainConfig]:
    """Return the config, and one for each of its controls: the same but for what is held.

    Raises:
        InvalidInput: a control is named twice, or the config is one of a control itself.
    """
    if config.control is not None and config.controls:
        raise InvalidInput(f"the run is itself the control {config.control!r}: leave controls out")
    if len({*config.controls}) < len(config.controls):
        raise InvalidInput(f"controls are {list(config.controls)}; name each once")
    return [config, *(replace(config, control=one, controls=()) for one in config.controls)]


class Anchor:
    """Holds a part of the weights to their start, after every step.

    - ``frozen_decoder``: decoder rows keep their directions. Where their norms are free, these are
      trained: a row becomes its part along its start.
    - ``soft_frozen_decoder``: a decoder row keeps a cosine of at least 0.8 to its start. One that
      left is turned back, in the plane of the two, to just that, and keeps its norm.
    - ``frozen_encoder``: the encoder keeps its rows. Its biases, as all else, are trained.
    """

    def __init__(self, control: str, tensors: Mapping[str, Tensor], *, free_norms: bool) -> None:
        """Take note of the weights before the first step.

        Args:
            control: one of :data:`CONTROLS`.
            tensors: of the kind, as it starts.
            free_norms: whether the kind leaves norms of decoder rows free.

        Raises:
            InvalidInput: the kind's tensors have other names than ``weights.encoder`` and
                ``weights.decoder``.
        """
        self._control, self._free_norms = control, free_norms
        self._name = "weights.encoder" if control == "frozen_encoder" else "weights.decoder"
        if self._name not in tensors:
            raise InvalidInput(
                f"the kind has no tensor {self._name}, which control {control!r} holds: train "
                "without control"
            )
        start = tensors[self._name]
        self._start = start.clone() if control == "frozen_encoder" else _unit(start)

    def apply(self, tensors: Mapping[str, Tensor]) -> None:
        """Bring the weights back to where they are held, in place."""
        weights, start = tensors[self._name], self._start
        if self._control == "frozen_encoder":
            weights.copy_(start)
            return
        along = (weights * start).sum(1, keepdim=True)
        if self._control == "frozen_decoder":
            weights.copy_(start * along.clamp(min=_TINY) if self._free_norms else start)
            return
        norms = weights.square().sum(1, keepdim=True).sqrt()
        across = _unit(weights - along * start)
        edge = norms * (SOFT_COSINE * start + (1 - SOFT_COSINE**2) ** 0.5 * across)
        weights.copy_(torch.where(along < SOFT_COSINE * norms, edge, weights))


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.square().sum(1, keepdim=True).sqrt().clamp(min=_TINY)
