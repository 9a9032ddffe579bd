"""The weights training starts from: a pure function of seed, width and features."""

import hashlib

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from isogloss.dictionaries.kinds.kind import InitialWeights
from isogloss.dictionaries.wirings.wiring import WiredColumns
from isogloss.kernels import inside_columns


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
    *,
    features: int,
    seed: int,
    connection: WiredColumns,
    mean: Float[Tensor, " columns"],
    columns: Tensor | None = None,
) -> InitialWeights:
    """Return the weights with which a run starts.

    Args:
        features: number of features.
        seed: seed of the random directions.
        connection: the columns that the dictionary reads and those that it reconstructs.
        mean: mean of the scaled training rows, over all columns.
        columns: first and last column (exclusive) of each feature, int64 ``[features, 2]``; None:
            all.

    Returns:
        The decoder is that of :func:`initial_decoder`. The encoder equals it when the dictionary
        reconstructs the columns that it reads; otherwise its directions are drawn with the next
        seed. Features that have some columns only are 0 elsewhere, and of norm 1 in theirs.
    """
    reads, writes = connection.reads, connection.writes
    decoder = held_to_columns(initial_decoder(features, len(writes), seed), columns)
    encoder = decoder
    if not connection.reads_what_it_writes:
        encoder = initial_decoder(features, len(reads), seed + 1)
    return InitialWeights(
        encoder=encoder,
        decoder=decoder,
        mean=mean[reads.start : reads.stop],
        target_mean=mean[writes.start : writes.stop],
        reads_what_it_writes=connection.reads_what_it_writes,
    )


def held_to_columns(decoder: Tensor, columns: Tensor | None) -> Tensor:
    """Return directions of norm 1 that are 0 outside each feature's columns."""
    if columns is None:
        return decoder
    inside = inside_columns(columns, decoder.shape[1])
    held = torch.where(inside, decoder.to(torch.float64), 0.0)
    return (held / held.square().sum(dim=1, keepdim=True).sqrt()).to(torch.float32)


def tensor_hash(tensor: Tensor) -> str:
    """Return the sha256 of a tensor's dtype, shape and little-endian bytes, in hexadecimal."""
    found = tensor.detach().cpu().contiguous()
    head = f"{found.dtype} {tuple(found.shape)}\n".encode()
    flat = found.reshape(-1)  # a tensor without dimensions cannot be viewed as bytes
    return hashlib.sha256(head + flat.view(torch.uint8).numpy().tobytes()).hexdigest()
