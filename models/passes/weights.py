"""Whether the weights of a live model changed between two passes.

A tensor of torch counts the changes made to it in place. Where the sum of these counts over all
weights differs, some of their numbers are compared with what they were, since a count also grows
where nothing changed. On the CPU the numbers are compared at each pass: an optimiser that writes to
``weight.data`` is not counted.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

_WATCHED = 4
_NUMBERS = 16
"""So many numbers of each of so many weights are compared."""


class WeightWatch:
    """Compares the weights of a module with those at the first pass of the same training step.

    Weights that are sharded over processes, or not in memory, are not watched.
    """

    def __init__(self, module: nn.Module) -> None:
        """Begin before the first pass.

        Args:
            module: the live model.
        """
        self._module = module
        self._step: int | None = None
        self._versions = 0
        self._numbers: list[Tensor] = []

    def has_changed(self, step: int) -> bool:
        """Say whether the weights of a pass are others than those of the step's first pass.

        Args:
            step: training step of the pass, as the loop names it.

        Returns:
            False for the first pass of a step that follows another one.
        """
        weights = [p for p in self._module.parameters() if _is_plain(p)]
        versions = sum(weight._version for weight in weights)
        if step != self._step:
            self._step, self._versions = step, versions
            self._numbers = _numbers(_watched(weights))
            return False
        watched = _watched(weights)
        if versions == self._versions and any(weight.is_cuda for weight in watched):
            return False  # a look at the numbers would wait for the device
        found = _numbers(watched)
        same = len(found) == len(self._numbers) and all(
            torch.equal(now, before) for now, before in zip(found, self._numbers, strict=True)
        )
        if same:
            self._versions = versions
        return not same


def _is_plain(weight: Tensor) -> bool:
    is_counted = not (weight.is_meta or weight.is_inference())
    return is_counted and type(weight.data) is Tensor and weight.numel() > 0


def _watched(weights: Sequence[Tensor]) -> list[Tensor]:
    """Choose some weights over all depths, of those that are trained where some are."""
    trained = [weight for weight in weights if weight.requires_grad] or weights
    last = max(len(trained) - 1, 0)
    places = sorted({last * i // (_WATCHED - 1) for i in range(_WATCHED)}) if trained else []
    return [trained[place] for place in places]


def _numbers(weights: Iterable[Tensor]) -> list[Tensor]:
    """Copy some numbers of each weight, evenly spread."""
    found: list[Tensor] = []
    for weight in weights:
        flat = weight.detach().reshape(-1) if weight.is_contiguous() else weight.detach().flatten()
        places = torch.arange(min(_NUMBERS, len(flat)), device=flat.device)
        found.append(flat[places * len(flat) // len(places)].to("cpu", copy=True))
    return found
