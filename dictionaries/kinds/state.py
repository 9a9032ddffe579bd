"""Weights and Adam's moments by name, which the kinds here start, step and export alike."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from isogloss.dictionaries.kinds.kind import InitialWeights, Normalisation
from isogloss.errors import InvalidInput
from isogloss.kernels import Weights

SAVED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "encoder": ("features", "width"),
        "encoder_bias": ("features",),
        "decoder": ("features", "width"),
        "decoder_bias": ("width",),
    }
)
"""What :func:`export_biases` returns, as a kind's ``saved`` names it."""


def start_tied(
    initial: InitialWeights, kind: str, more: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return the state of a run before its first step.

    The encoder is the decoder, the encoder bias 0, the decoder bias the mean row, moments 0.

    Args:
        initial: the weights that the run starts from.
        kind: class of the kind, for the message.
        more: further parameters by name, which get moments too.

    Returns:
        ``weights.NAME``, ``first.NAME`` and ``second.NAME`` of each parameter; new tensors.

    Raises:
        InvalidInput: the rows to reconstruct are not the rows read.
    """
    if not initial.reads_what_it_writes:
        raise InvalidInput(
            f"a {kind} dictionary reconstructs the rows that it reads; wanted a wiring whose sites "
            "come out as they go in"
        )
    decoder = initial.decoder
    weights = {
        "encoder": initial.encoder.clone(),
        "encoder_bias": decoder.new_zeros(decoder.shape[0]),
        "decoder": decoder.clone(),
        "decoder_bias": initial.mean.to(decoder.dtype).clone(),
        **(more or {}),
    }
    return {
        f"{group}.{name}": tensor.clone() if group == "weights" else torch.zeros_like(tensor)
        for group in ("weights", "first", "second")
        for name, tensor in weights.items()
    }


def state_group(tensors: Mapping[str, Tensor], group: str) -> Weights:
    """Return encoder, decoder and biases of a group: ``weights``, ``first`` or ``second``."""
    return Weights(
        encoder=tensors[f"{group}.encoder"],
        encoder_bias=tensors[f"{group}.encoder_bias"],
        decoder=tensors[f"{group}.decoder"],
        decoder_bias=tensors[f"{group}.decoder_bias"],
    )


def export_biases(tensors: Mapping[str, Tensor], normalisation: Normalisation) -> dict[str, Tensor]:
    """Return encoder, decoder and biases for raw rows: biases are divided by the scale."""
    trained = state_group(tensors, "weights")
    return {
        "encoder": trained.encoder.clone(),
        "encoder_bias": trained.encoder_bias / normalisation.scale,
        "decoder": trained.decoder.clone(),
        "decoder_bias": trained.decoder_bias / normalisation.scale,
    }
