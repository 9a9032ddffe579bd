"""The weights training starts from: a pure function of seed, width and features."""

import hashlib

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from isogloss.kernels import Weights


def initial_decoder(features: int, width: int, seed: int) -> Float32[Tensor, "{features} {width}"]:
    """Return the decoder a run of this seed starts from, unit rows, float32 ``[features, width]``.

    Directions are random rather than drawn from the rows: two runs over recordings of one corpus
    would otherwise start their features at the same tokens, and be matched because of it.
    """
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.randn(features, width, generator=generator, dtype=torch.float64)
    # a norm per row: torch reduces each output in one thread, so the bits are those of any thread
    decoder /= decoder.square().sum(dim=1, keepdim=True).sqrt()
    return decoder.to(torch.float32)


def initial_weights(
    decoder: Float32[Tensor, "features width"], mean: Float[Tensor, " width"]
) -> Weights:
    """Tie the encoder to the decoder, and start the decoder bias at the mean row.

    Args:
        decoder: ``[features, width]``, unit rows.
        mean: mean of the normalised training rows, ``[width]``.

    Returns:
        New float32 tensors; the encoder bias is zero.
    """
    return Weights(
        encoder=decoder.clone(),
        encoder_bias=torch.zeros(decoder.shape[0], dtype=torch.float32),
        decoder=decoder.clone(),
        decoder_bias=mean.to(torch.float32).clone(),
    )


def tensor_hash(tensor: Tensor) -> str:
    """Return the sha256 of a tensor's dtype, shape and little-endian bytes, in hexadecimal."""
    found = tensor.detach().cpu().contiguous()
    head = f"{found.dtype} {tuple(found.shape)}\n".encode()
    return hashlib.sha256(head + found.view(torch.uint8).numpy().tobytes()).hexdigest()
