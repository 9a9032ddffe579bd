"""Weights and Adam's moments by name, which the kinds here start, step and export alike."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from isogloss.dictionaries.kinds.kind import InitialWeights, Normalisation, StepBatch
from isogloss.kernels import Codes, Weights, encode_threshold, own_part, whole_codes

SAVED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "encoder": ("features", "width"),
        "encoder_bias": ("features",),
        "decoder": ("features", "target_width"),
        "decoder_bias": ("target_width",),
    }
)
"""What :func:`export_biases` returns, as a kind's ``saved`` names it."""


def start_tied(
    initial: InitialWeights, more: Mapping[str, Tensor] | None = None, *, norm: float = 1.0
) -> dict[str, Tensor]:
    """Return the state of a run before its first step.

    The encoder is the decoder where the rows read are those reconstructed; the encoder bias is 0,
    the decoder bias the mean row to reconstruct, moments 0.

    Args:
        initial: the weights that the run starts from.
        more: further parameters by name, which get moments too.
        norm: of the rows of encoder and decoder.

    Returns:
        ``weights.NAME``, ``first.NAME`` and ``second.NAME`` of each parameter; new tensors. Where
        other rows are reconstructed than are read, also ``input_bias``: the mean of the rows read,
        which is subtracted from them and never trained.
    """
    decoder = initial.decoder
    weights = {
        "encoder": initial.encoder * norm,
        "encoder_bias": decoder.new_zeros(decoder.shape[0]),
        "decoder": decoder * norm,
        "decoder_bias": initial.target_mean.to(decoder.dtype).clone(),
        **(more or {}),
    }
    constant: dict[str, Tensor] = {}
    if not initial.reads_what_it_writes:
        constant["input_bias"] = initial.mean.to(decoder.dtype).clone()
    return constant | {
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


def centred_rows(tensors: Mapping[str, Tensor], batch: StepBatch) -> Tensor:
    """Return the rows read of a batch, less what is subtracted before encoding."""
    own = tensors.get("input_bias")
    return batch.rows - (tensors["weights.decoder_bias"] if own is None else own)


def centred_raw_rows(tensors: Mapping[str, Tensor], rows: Tensor) -> Tensor:
    """Return raw rows less what a finished dictionary subtracts before encoding."""
    own = tensors.get("input_bias")
    return rows - (tensors["decoder_bias"] if own is None else own)


def encode_above(
    batch: StepBatch, centred: Tensor, encoder: Tensor, bias: Tensor, threshold: Tensor | float
) -> Codes:
    """Return what lies above a threshold, of all rows of a step; each process encodes its part.

    Args:
        batch: the input of the step.
        centred: its rows less what is subtracted before encoding.
        encoder: directions to read.
        bias: of each feature.
        threshold: of each feature, or one for all.
    """
    own = centred[own_part(len(centred), batch.share)]
    found = encode_threshold(own, encoder, bias, threshold, workspace=batch.workspace)
    return whole_codes(found, batch.share, len(centred))


def export_biases(
    tensors: Mapping[str, Tensor], normalisation: Normalisation, *, fold_norms: bool = False
) -> dict[str, Tensor]:
    """Return encoder, decoder and biases for raw rows.

    With s the scale of all sites, codes are ``z / s``: biases are divided by it. With s_m that of a
    column's site, its encoder weights are multiplied by ``s_m / s`` and its decoder weights
    divided by it.

    Args:
        tensors: of the run.
        normalisation: how its rows were scaled.
        fold_norms: whether to divide each decoder row by its norm, in scaled units, and multiply
            the feature's encoder row and bias by it: what is reconstructed stays the same, and
            codes say how far an entry moves the reconstruction. A row of 0 stays.
    """
    trained, scale = state_group(tensors, "weights"), normalisation.scale
    if fold_norms:
        norms = trained.decoder.square().sum(1).sqrt()
        norms = torch.where(norms > 0, norms, 1.0)
        trained = Weights(
            encoder=trained.encoder * norms[:, None],
            encoder_bias=trained.encoder_bias * norms,
            decoder=trained.decoder / norms[:, None],
            decoder_bias=trained.decoder_bias,
        )
    reads, writes = normalisation.reads, normalisation.writes
    made = {
        "encoder": trained.encoder.clone() if reads is None else trained.encoder * reads,
        "encoder_bias": trained.encoder_bias / scale,
        "decoder": trained.decoder.clone() if writes is None else trained.decoder / writes,
        "decoder_bias": trained.decoder_bias / (scale if writes is None else scale * writes),
    }
    if "input_bias" in tensors:
        made["input_bias"] = tensors["input_bias"] / (scale if reads is None else scale * reads)
    return made
