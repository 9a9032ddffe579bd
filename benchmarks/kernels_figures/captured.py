"""Which operations can be captured in a graph of the device's work."""

from collections import Counter
from collections.abc import Callable, Iterator

import torch

from isogloss.kernels import (
    AdamMoments,
    StepSettings,
    Weights,
    adam_step,
    coactivation,
    decode,
    decode_loss,
    decode_prefixes,
    encode_batch_topk,
    encode_threshold,
    encode_topk,
    encode_topk_aux,
    sparse_gradients,
    train_step_topk,
)
from isogloss.kernels.gradients import feature_sums, value_slopes
from isogloss.kernels.testing.interpreter import interpreter
from isogloss.kernels.testing.waits import waiting
from kernels_figures.figure import Figure


def reasons() -> dict[str, Counter[str]]:
    """For each operation what forbids to capture it, in its second call."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(4, 6), torch.randn(20, 6), torch.zeros(20)
    codes, mask = encode_topk(x, weight, bias, 3), torch.arange(20) % 2 == 0
    limits = torch.full((20,), 0.5)
    rows = torch.nn.functional.normalize(weight)
    weights = Weights(
        encoder=rows.clone(), encoder_bias=bias.clone(), decoder=rows, decoder_bias=torch.zeros(6)
    )
    moments, settings = (
        AdamMoments.zeros_like(weights),
        StepSettings(k=3, learning_rate=1e-3, variance=6.0),
    )
    flat, first, second = weight.clone(), torch.zeros_like(weight), torch.zeros_like(weight)
    own = [tensor.clone().requires_grad_() for tensor in (weight, rows)]

    def backward() -> None:
        found = encode_topk(x, own[0], bias, 3)
        decode(found, own[1]).sum().backward()

    calls: dict[str, Callable[[], object]] = {
        "encode_topk": lambda: encode_topk(x, weight, bias, 3),
        "encode_topk_aux": lambda: encode_topk_aux(x, weight, bias, 3, mask, 4),
        "encode_threshold": lambda: encode_threshold(x, weight, bias, limits),
        "encode_batch_topk": lambda: encode_batch_topk(x, weight, bias, 3),
        "decode": lambda: decode(codes, weight),
        "decode_loss": lambda: decode_loss(codes, weight, x),
        "decode_prefixes": lambda: decode_prefixes(codes, weight, (5, 20)),
        "sparse_gradients": lambda: sparse_gradients(codes, x, x, weight),
        "value_slopes": lambda: value_slopes(codes, x, weight),
        "feature_sums": lambda: feature_sums(codes, x),
        "encode and decode, backward": backward,
        "coactivation": lambda: coactivation(codes, codes),
        "adam_step": lambda: adam_step(flat, weight, first, second, step=1, learning_rate=1e-3),
        "train_step_topk": lambda: train_step_topk(x, weights, moments, settings, step=1),
    }
    found: dict[str, Counter[str]] = {}
    for name, call in calls.items():
        with interpreter():
            call()
            with waiting() as counts:
                call()
        found[name] = +counts
    return found


def captured_figures() -> Iterator[Figure]:
    """How many operations of all can be captured, and what forbids it to the others."""
    found = reasons()
    free = [name for name, counts in found.items() if not counts]
    named = [
        f"{name} ({', '.join(f'{count} x {why}' for why, count in counts.items())})"
        for name, counts in found.items()
        if counts
    ]
    yield Figure(
        id="captured",
        value=len(free),
        bar=10,
        at_most=False,
        how=f"operations of {len(found)} that neither wait for the device nor copy to it: "
        f"{', '.join(free)}. Not: {'; '.join(named)}",
        unit="operations",
    )
