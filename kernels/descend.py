"""One step of Adam on all parameters of a dictionary whose gradients are sums over entries."""

from collections.abc import Mapping

import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.kernels import cpu, reference
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.gradients import feature_sums
from isogloss.kernels.values.descent import DescentSettings, EntryGradients, moving
from isogloss.kernels.values.step import inside_columns
from isogloss.kernels.values.workspace import Workspace


def descend_entries(
    parameters: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    gradients: EntryGradients,
    settings: DescentSettings,
    *,
    step: int,
    columns: Tensor | None = None,
    workspace: Workspace | None = None,
) -> None:
    """Take one step of exact Adam on every parameter, in place.

    For kinds with a loss of their own (JumpReLU, ReLU-L1, Gated): they say what each entry
    contributes, and this sums it. On the CPU no gradient matrix exists: one feature after another
    has its two gradient rows summed, projected, shortened and given to Adam in cache, by one order
    of sums, so the bits do not depend on the number of threads.

    Args:
        parameters: ``encoder``, ``decoder``, ``decoder_bias`` and others by name, float32,
            contiguous; overwritten.
        first: Adam's first moment of each; overwritten.
        second: Adam's second moment of each; overwritten.
        gradients: of the loss.
        settings: of the optimiser.
        step: number of this step, from 1.
        columns: int64 ``[features, 2]``, the first column of each feature and the one behind its
            last; gradients elsewhere are 0. None: all columns.
        workspace: scratch memory to reuse between calls.

    Raises:
        InvalidInput: ``step`` is below 1, or a parameter has no gradient.
    """
    if step < 1:
        raise InvalidInput(f"step is {step}; steps count from 1")
    wanted = {*gradients.vectors, "encoder", "decoder", "decoder_bias"}
    if wanted != set(parameters):
        raise InvalidInput(
            f"there are gradients of {sorted(wanted)}; wanted those of {sorted(parameters)}"
        )
    given = (parameters, first, second, gradients, settings, step, columns)
    with torch.no_grad():
        if takes_triton(parameters["encoder"]):
            _composed(*given)
        else:
            cpu.descend.descend_entries(*given, workspace or Workspace())
    checks.stepped(*parameters.values())


def _composed(
    parameters: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    given: EntryGradients,
    settings: DescentSettings,
    step: int,
    columns: Tensor | None,
) -> None:
    """Take the step by other operations of this room, with whole gradient matrices."""
    moved = given.moved() if settings.lazy else None
    slopes = whole_gradients(parameters, given, columns)
    descend_whole(parameters, first, second, slopes, settings, step, moved)


def descend_whole(
    parameters: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    slopes: Mapping[str, Tensor],
    settings: DescentSettings,
    step: int,
    moved: Tensor | None,
) -> None:
    """Take the step by gradients that are whole, on any device.

    Args:
        parameters: by name, ``decoder`` and ``decoder_bias`` among them; overwritten.
        first: Adam's first moment of each; overwritten.
        second: Adam's second moment of each; overwritten.
        slopes: the gradient of each, before projection and bound.
        settings: of the optimiser.
        step: number of this step, from 1.
        moved: bool ``[features]``: those that are moved, beside the decoder bias; None: all.
    """
    decoder, slopes = parameters["decoder"], dict(slopes)
    if settings.unit_norm:
        slopes["decoder"] = reference.project_rows(slopes["decoder"], decoder)
    if settings.clip_norm is not None:
        norm = float(torch.stack([slope.norm() for slope in slopes.values()]).norm())
        shorter = min(1.0, settings.clip_norm / norm) if norm > 0 else 1.0
        slopes = {name: slope * shorter for name, slope in slopes.items()}
    constants = reference.AdamSettings(
        learning_rate=settings.learning_rate,
        beta1=settings.beta1,
        beta2=settings.beta2,
        epsilon=settings.epsilon,
    )
    for name, slope in slopes.items():
        own = (parameters[name], first[name], second[name])
        with moving(own, None if name == "decoder_bias" else moved):
            reference.adam(*own, slope, constants, step)
            if name == "decoder" and settings.unit_norm:
                decoder.copy_(reference.normalise_rows(decoder))


def whole_gradients(
    parameters: Mapping[str, Tensor], given: EntryGradients, columns: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the gradient of every parameter, whole; before projection and bound.

    Args:
        parameters: by name.
        given: the gradients by entry.
        columns: columns of each feature; None: all.
    """
    decoder = parameters["decoder"]
    of_decoder = feature_sums(given.codes, given.downhill)[0]
    of_encoder = feature_sums(given.codes.with_values(given.slopes), given.source)[0]
    if given.radial is not None:
        for part in given.parts or (range(decoder.shape[1]),):
            own = slice(part.start, part.stop)
            norms = decoder[:, own].square().sum(1).sqrt().clamp(min=1e-30)
            of_decoder[:, own] += (given.radial / norms)[:, None] * decoder[:, own]
    if given.more_features is not None and given.more_rows is not None:
        of_encoder[given.more_features] += given.more_rows
    if columns is not None:
        of_decoder, of_encoder = (
            torch.where(inside_columns(columns, one.shape[1]), one, 0.0)
            for one in (of_decoder, of_encoder)
        )
    of_bias = given.decoder_bias
    if given.through is not None:
        of_bias = of_bias - given.through @ parameters["encoder"]
    return {
        **given.vectors,
        "encoder": of_encoder,
        "decoder": of_decoder,
        "decoder_bias": of_bias,
    }
