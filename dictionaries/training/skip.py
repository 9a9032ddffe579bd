"""The linear map of a transcoder, trained beside whatever kind of dictionary is trained."""

from collections.abc import Mapping

import torch
from torch import Tensor

from isogloss.dictionaries.kinds.kind import Normalisation, StepBatch
from isogloss.dictionaries.kinds.optimise import BETA2, EPSILON
from isogloss.errors import InvalidInput
from isogloss.kernels import StepResult, adam_step, product

PREFIX = "wiring."
"""Begins the names of the wiring's tensors in a checkpoint."""


def start_skip(target_width: int, width: int) -> dict[str, Tensor]:
    """Return the map before the first step, 0, and its moments; new tensors."""
    return {f"{PREFIX}{name}": torch.zeros(target_width, width) for name in ("skip", *_MOMENTS)}


_MOMENTS = ("skip_first", "skip_second")


def skipped(tensors: Mapping[str, Tensor], centred: Tensor) -> Tensor:
    """Return what the map makes of rows less their mean, ``centred @ skip.T``."""
    return product(centred, tensors[f"{PREFIX}skip"].T)


def train_skip(
    tensors: Mapping[str, Tensor], centred: Tensor, batch: StepBatch, result: StepResult
) -> None:
    """Take one step of Adam on the map, in place.

    The reconstruction is that of the kind plus the map's, so the gradient to the map is the
    gradient of the kind's squared error to its reconstruction, times the rows.

    Args:
        tensors: those of :func:`start_skip`.
        centred: the rows read less their mean, ``[rows, width]``.
        batch: what the kind was given.
        result: what the kind returned.

    Raises:
        InvalidInput: the kind does not return the residual.
    """
    residual = result.residual if result.mean_residual is None else result.mean_residual
    if residual is None:
        raise InvalidInput(
            "this kind's step returns no residual, which a linear map beside it is trained by: set "
            "skip to false, or have the step return StepResult(residual=...)"
        )
    factor = 2 / (len(centred) * batch.variance)
    adam_step(
        tensors[f"{PREFIX}skip"],
        product(residual.T, centred).mul_(factor),
        *(tensors[f"{PREFIX}{name}"] for name in _MOMENTS),
        step=batch.step,
        learning_rate=batch.learning_rate,
        beta2=BETA2,
        epsilon=EPSILON / batch.variance,
    )


def exported_skip(
    tensors: Mapping[str, Tensor], mean: Tensor, normalisation: Normalisation
) -> dict[str, Tensor]:
    """Return the map of raw rows, and the raw mean that is subtracted before it.

    Args:
        tensors: those of :func:`start_skip`.
        mean: mean of the scaled rows read.
        normalisation: the scales.
    """
    skip = tensors[f"{PREFIX}skip"]
    reads = torch.ones(skip.shape[1]) if normalisation.reads is None else normalisation.reads
    writes = torch.ones(skip.shape[0]) if normalisation.writes is None else normalisation.writes
    return {
        "skip": skip * reads / writes[:, None],
        "skip_bias": mean.to(torch.float32) / (normalisation.scale * reads),
    }
