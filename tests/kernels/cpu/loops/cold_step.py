"""Hashes six training steps and the gradients; run where loops are compiled, and where loaded.

Writes the hash, and how many loops came from numba's cache.
"""

import hashlib
import sys

import torch
from numba.core.dispatcher import Dispatcher

from isogloss.kernels import (
    AdamMoments,
    StepSettings,
    Weights,
    encode_topk,
    sparse_gradients,
    train_step_topk,
)

FEATURES, WIDTH, ROWS = 96, 27, 512


def main() -> None:
    torch.manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(FEATURES, WIDTH))
    weights = Weights(
        encoder=decoder.clone(),
        encoder_bias=torch.zeros(FEATURES),
        decoder=decoder.clone(),
        decoder_bias=torch.zeros(WIDTH),
    )
    moments = AdamMoments.zeros_like(weights)
    settings = StepSettings(k=4, learning_rate=1e-3, variance=1.0, aux_k=8)
    dead = torch.arange(FEATURES) % 5 == 0
    for step in range(1, 7):
        train_step_topk(torch.randn(ROWS, WIDTH), weights, moments, settings, step=step, dead=dead)
    x = torch.randn(ROWS, WIDTH)
    codes = encode_topk(x, weights.encoder, weights.encoder_bias, 4)
    gradients = sparse_gradients(codes, torch.randn(ROWS, WIDTH), x, weights.decoder)
    found = [*weights.named().values(), gradients.decoder, gradients.encoder, codes.values]
    joined = b"".join(tensor.contiguous().numpy().tobytes() for tensor in found)
    sys.stdout.write(f"{hashlib.sha256(joined).hexdigest()} {loaded_loops()}")


def loaded_loops() -> int:
    loops = {
        loop
        for name, module in list(sys.modules.items())
        if name.startswith("isogloss.kernels.cpu")
        for loop in vars(module).values()
        if isinstance(loop, Dispatcher)
    }
    return sum(loop.stats.cache_hits.total() for loop in loops)


if __name__ == "__main__":
    main()
