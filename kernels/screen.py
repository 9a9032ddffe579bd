"""Which features can fire on a few rows: an 8-bit product with bounds, before an exact encoder.

The product of a few rows with all directions is bound by the bytes of the directions, and 8 bits
are a quarter of them. Of what is left on a row, one number in 160 where directions are random, the
product in float32 leaves a fifth. That is encoded exactly, by whoever asked.
"""

import numpy as np
import torch
from torch import Tensor

from isogloss.errors import ShapeError
from isogloss.kernels import cpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.values.screen import SMALLEST, EncoderScreen

MOST_ROWS = 64
"""Rows of a call at most: for more the exact product is as quick, and nearly all features fire."""

_LARGEST = 1e30
_BLOCK = 1024
_EVEN = 16


def screening_pays() -> bool:
    """Return whether this processor multiplies bytes quickly enough for a screen to be worth it.

    The first call measures it, in milliseconds. Where not, :func:`screen_topk` and
    :func:`screen_threshold` return None, and making a screen is in vain.
    """
    return cpu.screen.is_quicker()


def make_screen(weight: Tensor, bias: Tensor) -> EncoderScreen:
    """Round an encoder to 8 bits, each direction by its own largest number.

    Args:
        weight: encoder directions, ``[features, width]``, contiguous, on the CPU.
        bias: ``[features]``.

    Returns:
        The screen; it refers to ``weight``, whose numbers must stay as they are.

    Raises:
        ShapeError: a shape, dtype or stride does not fit, or the tensors are on a device.
        InvalidInput: ``weight`` or ``bias`` is not finite.
    """
    checks.encoder(weight[:0], weight, bias)
    if weight.device.type != "cpu":
        raise ShapeError(f"weight is on {weight.device}; a screen is made of tensors on the CPU")
    features, width = weight.shape
    steps = torch.empty(features, width, dtype=torch.int8)
    scale, missed, length = (torch.empty(features) for _ in range(3))
    for start in range(0, features, _BLOCK):  # a block stays in cache over these passes
        part = slice(start, start + _BLOCK)
        block = weight[part].detach().float()
        largest = block.abs().amax(1) if width else block.new_zeros(len(block))
        scale[part] = torch.where(largest > SMALLEST, largest / 127, 1.0)
        block = block / scale[part, None]  # lengths in steps: squares do not run out of range
        rounded = block.round().clamp_(-127, 127)
        steps[part] = rounded.to(torch.int8)
        length[part] = rounded.norm(dim=1)
        missed[part] = rounded.sub_(block).norm(dim=1)
    length *= scale
    missed = missed * scale + SMALLEST * width**0.5
    offsets, given = bias.detach().float(), weight.detach()
    return EncoderScreen(
        steps=cpu.screen.packed(steps),
        width=width,
        scale=scale,
        bias=offsets,
        missed=missed,
        length=length,
        weight=given if given.dtype == torch.float32 and given.is_contiguous() else None,
        longest=float(length.max()) if features else 0.0,
        largest_bias=float(offsets.abs().max()) if features else 0.0,
    )


def take_features(tensor: Tensor, left: Tensor) -> Tensor:
    """Return the part of an encoder's tensor that belongs to some features.

    It is not searched for NaN again: the whole tensor was, when its screen was made.

    Args:
        tensor: ``[features, ...]``, as the screen was made of.
        left: numbers of features, int64.
    """
    part = tensor.detach().index_select(0, left)
    checks.stepped(part)
    return part


def screen_topk(x: Tensor, screen: EncoderScreen, k: int) -> Tensor | None:
    """Return the features that can be among the ``k`` that ``encode_topk`` keeps of some row.

    With w a direction, w' its rounded one, x a row and x' the row in 16 bits,
    ``|<w, x> - <w', x'>| <= |w - w'| |x| + |w'| |x - x'|``. A feature is left out of a row where
    ``k`` others are surely larger; then by sums in float32 of what is left of each row, which are
    as far off as any order of their terms. What is returned holds features 0 to ``k - 1`` too, by
    which ``encode_topk`` fills up rows; so ``encode_topk`` with these directions alone keeps the
    same.

    Args:
        x: rows, ``[rows, width]``, on the CPU; float32, bfloat16 or float16.
        screen: from :func:`make_screen`.
        k: entries a row.

    Returns:
        Numbers of features, int64, ascending. None where screening would not help: on a device, for
        more rows than ``MOST_ROWS``, for numbers that are not finite or near the end of float32,
        where most features are left, or where this processor has no right and quick 8-bit product.

    Raises:
        ShapeError: ``x`` does not fit the screen.
        InvalidInput: ``k`` is not in ``[1, features]``.
    """
    checks.k_within(k, len(screen.scale))
    left = _left(x, screen, k, None)
    if left is None:
        return None
    left[:k] = True
    return _worth(left)


def screen_threshold(x: Tensor, screen: EncoderScreen, threshold: Tensor | float) -> Tensor | None:
    """Return the features whose pre-activation can lie above their threshold on some row.

    Args:
        x: rows, ``[rows, width]``, on the CPU.
        screen: from :func:`make_screen`.
        threshold: as :func:`isogloss.kernels.encode_threshold` takes it.

    Returns:
        Numbers of features, int64, ascending; None as :func:`screen_topk` says.

    Raises:
        ShapeError: ``x`` or ``threshold`` does not fit the screen.
    """
    limits = torch.as_tensor(threshold, dtype=torch.float32)
    if limits.ndim > 0:
        checks.vector("threshold", limits, len(screen.scale))
    left = _left(x, screen, 0, limits.expand(len(screen.scale)).contiguous())
    return None if left is None else _worth(left)


def _left(x: Tensor, screen: EncoderScreen, k: int, limits: Tensor | None) -> Tensor | None:
    """Return which features are left on some row, bool ``[features]``; None: all may be."""
    checks.matrix("x", x, columns=screen.width)
    checks.floating(x=x)
    if x.device.type != "cpu" or not 0 < x.shape[0] <= MOST_ROWS or not x.shape[1]:
        return None
    rows = x.detach().float()
    largest = float(rows.norm(dim=1).max()) * screen.longest + screen.largest_bias
    if not largest < _LARGEST or not screening_pays():
        return None
    return cpu.screen.left(rows, screen, k, limits)


def _worth(left: Tensor) -> Tensor | None:
    """Return the numbers of the features left, with some more: an even number fills the GEMM."""
    marks = left.numpy()
    found = np.flatnonzero(marks)  # torch's nonzero() took four times as long
    if missing := -len(found) % _EVEN:
        others = np.flatnonzero(~marks[: len(found) + missing])  # so many hold as many others
        marks[others[:missing]] = True
        found = np.flatnonzero(marks)
    return torch.from_numpy(found) if 2 * len(found) < len(left) else None
