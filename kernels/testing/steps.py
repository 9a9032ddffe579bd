"""The training step composed of single operations against the one fused on the CPU."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from isogloss.kernels import cpu
from isogloss.kernels.step import composed_step
from isogloss.kernels.values.step import AdamMoments, StepSettings, Weights, WiredRows
from isogloss.kernels.values.workspace import Workspace

ROWS, WIDTH, FEATURES, K, STEPS = 128, 64, 512, 8, 3
RATE = 1e-3
"""Adam's step size: a parameter moves by little more in a step."""


class Gap(NamedTuple):
    """How far a number of one step is from the other's."""

    name: str
    """Of the number."""
    found: float
    """The distance."""
    most: float
    """What rounding may explain."""


def gaps(device: str, *, aux_k: int, over_batch: bool) -> Iterator[Gap]:
    """Take three steps on the device and on the CPU, and compare them.

    Losses may differ by the rounding of float32. A sum that rounds otherwise can flip the sign of a
    gradient that is almost nothing, and Adam then moves the parameter the other way: so parameters
    may differ by a few steps' size, those of a thousandth of all entries by more than rounding.

    Args:
        device: where the composed step runs.
        aux_k: dead features that AuxK may use; 0 for no AuxK.
        over_batch: whether the codes are chosen over the batch.

    Yields:
        The gap of every loss, of the firings, and of every parameter after all steps.
    """
    generator = torch.Generator().manual_seed(2)
    directions = torch.nn.functional.normalize(torch.randn(FEATURES, WIDTH, generator=generator))
    sides = [_weights(directions, place) for place in ("cpu", device)]
    moments = [AdamMoments.zeros_like(side) for side in sides]
    settings = StepSettings(k=K, learning_rate=RATE, variance=float(WIDTH), aux_k=aux_k)
    dead = torch.arange(0, FEATURES, 4, dtype=torch.int32) if aux_k else None
    for step in range(1, STEPS + 1):
        x = torch.randn(ROWS, WIDTH, generator=generator)
        results = [
            take(
                WiredRows(x.to(place), None, None),
                side,
                moment,
                settings,
                step,
                None if dead is None else dead.to(place),
                Workspace(),
                over_batch=over_batch,
            )
            for take, place, side, moment in zip(
                (cpu.step.train_step, composed_step), ("cpu", device), sides, moments, strict=True
            )
        ]
        here, there = results
        for name in ("loss", "squared_error", "aux_loss"):
            wanted = getattr(here, name)
            yield Gap(f"{name} {step}", abs(getattr(there, name) - wanted), 1e-4 * abs(wanted))
        moved = (here.fired - there.fired.cpu()).abs().sum()
        yield Gap(f"fired {step}", float(moved), 1e-3 * ROWS * K)
    for name, tensor in sides[0].named().items():
        apart = (tensor - sides[1].named()[name].cpu()).abs()
        yield Gap(name, float(apart.max()), 2.2 * STEPS * RATE)
        yield Gap(f"{name}, entries beyond rounding", float((apart > 1e-5).double().mean()), 1e-3)


def _weights(directions: torch.Tensor, device: str) -> Weights:
    features, width = directions.shape
    return Weights(
        encoder=directions.clone().to(device),
        encoder_bias=torch.zeros(features, device=device),
        decoder=directions.clone().to(device),
        decoder_bias=torch.zeros(width, device=device),
    )
