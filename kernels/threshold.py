"""Encode by threshold: JumpReLU, and BatchTopK at inference."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.kernels import cpu, gpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.encode import hold_choice
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.workspace import Workspace


@dataclass(kw_only=True, slots=True)
class Repairs:
    """Counts how often a Triton encoder computed a tile again.

    Calls that are handed the same object add to it.

    A tile is the rows and features of one program. On the CPU nothing is ever repaired.
    """

    tiles: int = 0
    """Tiles of all calls."""
    repaired: int = 0
    """Those computed again, because a row had more candidates in them than a program keeps."""

    @property
    def fraction(self) -> float:
        """Repaired tiles as a part of all; 0 before the first call."""
        return self.repaired / self.tiles if self.tiles else 0.0


def encode_threshold(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    threshold: Tensor | float,
    *,
    workspace: Workspace | None = None,
    repairs: Repairs | None = None,
) -> Codes:
    """Keep every ``pre = x @ weight.T + bias`` that lies above its feature's threshold, exactly.

    A feature fires where ``pre > threshold[feature]``, and its value is ``pre`` (JumpReLU,
    Rajamanoharan et al. 2024, arXiv:2407.14435). With one threshold for all features it is
    BatchTopK at inference (Bussmann et al. 2024, arXiv:2412.06410). NaN fires, so that it shows; a
    feature whose threshold is infinite is off. Differentiable in ``x``, ``weight`` and ``bias``
    with the choice of entries held fixed; the threshold gets no gradient here (training adds a
    straight-through estimate).

    Args:
        x: ``[rows, width]``; float32, bfloat16 or float16.
        weight: encoder directions, ``[features, width]``, contiguous.
        bias: ``[features]``.
        threshold: ``[features]``, or one for all (a number or a tensor without dimensions); not
            negative; compared in float32.
        workspace: scratch memory to reuse between calls.
        repairs: counts repaired tiles, added to what it holds.

    Returns:
        Ragged canonical codes: float32 values without zeros, features ascending within a row.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: a threshold is negative or NaN; ``weight`` or ``bias`` is not finite (see
            ``encode_topk``).
    """
    checks.encoder(x, weight, bias)
    limits = _limits(threshold, weight)
    inputs = (x.detach(), weight.detach(), bias.detach())
    if takes_triton(x):
        codes, tiles, repaired = gpu.threshold.encode_threshold(*inputs, limits)
        if repairs is not None:
            repairs.tiles += tiles
            repairs.repaired += repaired
    else:
        codes = cpu.threshold.encode_threshold(*inputs, limits, workspace or Workspace())
    return hold_choice(codes, x, weight, bias)


def _limits(threshold: Tensor | float, weight: Tensor) -> Tensor:
    features = weight.shape[0]
    takes_triton(weight)
    if not isinstance(threshold, Tensor):
        number = float(threshold)
        if not number >= 0:
            raise InvalidInput(
                f"threshold holds {number}; codes are not negative, so 0 or more is wanted "
                "(clamp it)"
            )
        return torch.full((features,), abs(number), device=weight.device)
    if threshold.ndim > 0:
        checks.vector("threshold", threshold, features)
    checks.floating(threshold=threshold)
    checks.one_device(weight=weight, threshold=threshold)
    checks.not_negative(threshold=threshold)
    # -0.0 orders below 0.0 as bits do
    return threshold.detach().float().abs().expand(features).contiguous()
