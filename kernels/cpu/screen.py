# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""Bounds of pre-activations: from an 8-bit product, then, of the few entries left, from float32."""

import timeit
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.loops.select import reached_by
from isogloss.kernels.cpu.loops.sums import dot
from isogloss.kernels.cpu.loops.threads import FAST, parallel_loops
from isogloss.kernels.values.screen import SMALLEST, EncoderScreen

_FINE = 254
_EPSILON = 2.0**-23
_SLOW = 20


@cache
def multiplies_bytes() -> bool:
    """Return whether torch's 8-bit product is right here, and no loop that takes much longer.

    Processors without instructions for it may saturate sums of two products; the largest numbers
    show it. Others than x86 are left out: what they would take was not measured.
    """
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    left, right = _largest_sums()
    try:
        is_right = _is_product(_plain_product(left, right), left, right)
    except RuntimeError:  # this build of torch has none for the CPU
        return False
    rows, directions = left.float(), right.float().T
    return is_right and _is_quick(lambda: _plain_product(left, right), lambda: rows @ directions)


@cache
def _packs() -> bool:
    """Return whether oneDNN multiplies by directions that it laid out once, and is right.

    ``_int_mm`` lays them out at each call: 40 x 768 by 24,576 took 4.9 ms of CPU, and packed 2.4,
    of which 1.5 are the reading of the bytes. Where oneDNN has no instructions for what it is
    asked, it takes a loop that is right, and 20,000 times slower: so it is timed.
    """
    if not multiplies_bytes():
        return False
    left, right = _largest_sums()
    try:
        laid_out = _pack(right)
        if not _is_product(_packed_product(left, laid_out, len(right)), left, right):
            return False
    except (RuntimeError, AttributeError, NotImplementedError):  # a build of torch without it
        return False
    return _is_quick(
        lambda: _packed_product(left, laid_out, len(right)), lambda: _plain_product(left, right)
    )


@cache
def is_quicker() -> bool:
    """Return whether the 8-bit product of a few rows takes no longer than float32's here.

    Where a processor has no instructions for bytes it is right and slow: with AVX2 alone, 40 x 768
    by 24,576 took 504 ms of CPU, and the 20 rows in float32 that it stands for 45.
    """
    if not multiplies_bytes():
        return False
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-127, 128, (40, 768), generator=generator).to(torch.int8)
    directions = torch.randint(-127, 128, (1024, 768), generator=generator).to(torch.int8)
    floats, transposed, laid_out = rows[:20].float(), directions.float().T, packed(directions)
    return _is_quick(
        lambda: _product(rows, laid_out, len(directions)), lambda: floats @ transposed, most=1
    )


def packed(steps: Tensor) -> Tensor:
    """Return int8 directions ``[features, width]`` as the product reads them, or as they are."""
    return _pack(steps) if steps.numel() and _packs() else steps


def _largest_sums() -> tuple[Tensor, Tensor]:
    """Return two int8 matrices whose rows' products are as large as they can be."""
    ends = torch.tensor([127, -127, 127, 127, -127, -127, 126], dtype=torch.int8).repeat(40)
    left = torch.stack([ends.roll(shift) for shift in range(20)])
    return left, torch.stack([ends.roll(3 * shift) for shift in range(32)])


def _is_quick(
    product: Callable[[], Tensor], beside: Callable[[], Tensor], most: float = _SLOW
) -> bool:
    """Return whether one product takes no more than ``most`` times as long as another.

    Of small ones a call is most of it: those that are meant differ by a factor of two or three, and
    a loop instead of instructions by hundreds.
    """
    taken = [min(timeit.repeat(one, number=1, repeat=5)) for one in (product, beside)]
    return taken[0] <= most * taken[1]


def _is_product(found: Tensor, left: Tensor, right: Tensor) -> bool:
    return torch.equal(found.long(), left.long() @ right.long().T)


def _pack(steps: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_prepack(steps, None)


def _packed_product(rows: Tensor, directions: Tensor, features: int) -> Tensor:
    """Return float32 sums of an int8 product; whole up to 2^24, beyond rounded once."""
    ones, zeros = torch.ones(features), torch.zeros(features, dtype=torch.int32)
    more: tuple[object, ...] = (None, 1.0, 0, torch.float32, "none", [], "")
    # bytes from 0 up, of which 128 stands for 0: AVX-512 multiplies such by signed ones, and for
    # two signed bytes oneDNN has a loop of 45 s in the place of 2.5 ms where there is no AMX
    shifted = rows.view(torch.uint8) ^ 0x80
    return torch.ops.onednn.qlinear_pointwise(shifted, 1.0, 128, directions, ones, zeros, *more)


def left(rows: Tensor, screen: EncoderScreen, k: int, limits: Tensor | None) -> Tensor:
    """Mark the features that can fire on some row.

    Args:
        rows: float32 ``[rows, width]``, finite.
        screen: of the encoder.
        k: how many a row keeps; used where ``limits`` is None.
        limits: float32 ``[features]``, above which a feature fires; None: the ``k`` largest do.

    Returns:
        Bool ``[features]``.
    """
    largest = rows.abs().amax(1)
    step = torch.where(largest > SMALLEST, largest / 127, 1.0)
    scaled = rows / step[:, None]  # lengths in steps: squares do not run out of range
    coarse = scaled.round().clamp(-127, 127)
    fine = ((scaled - coarse) * _FINE).round().clamp(-127, 127)
    smallest = SMALLEST * rows.shape[1] ** 0.5
    lengths = scaled.norm(dim=1) * step + smallest
    lost = (scaled - coarse - fine / _FINE).norm(dim=1) * step + smallest
    # of sums in float32, in whatever order, and of the numbers in this file
    rounding = (rows.shape[1] + 16) * _EPSILON
    per_length = screen.missed + rounding * (screen.length + screen.missed)
    constant = rounding * screen.bias.abs()
    marks = torch.empty(len(rows), len(screen.scale), dtype=torch.bool)
    products = _product(torch.cat([coarse, fine]).to(torch.int8), screen.steps, len(screen.scale))
    with parallel_loops():
        _mark_rows(
            products.numpy(),
            (step.numpy(), lengths.numpy(), lost.numpy()),
            (screen.scale.numpy(), screen.bias.numpy()),
            (per_length.numpy(), screen.length.numpy(), constant.numpy()),
            k,
            (np.empty(0, np.float32) if limits is None else limits.numpy()),
            marks.numpy(),
        )
        if screen.weight is not None and int(np.count_nonzero(marks.numpy())) <= marks.shape[1]:
            _look_again(
                rows.contiguous().numpy(),
                lengths.numpy(),
                (screen.weight.numpy(), screen.bias.numpy()),
                # twice: the encoder's sum is as far from the true one as this one may be
                (2 * rounding * (screen.length + screen.missed)).numpy(),
                (2 * constant).numpy(),
                k,
                (np.empty(0, np.float32) if limits is None else limits.numpy()),
                marks.numpy(),
            )
    # torch's any() over rows took 0.9 ms of 15 at 20 x 24,576, this 0.1
    return torch.from_numpy(np.bitwise_or.reduce(marks.numpy(), axis=0))


def _product(rows: Tensor, directions: Tensor, features: int) -> Tensor:
    """Return ``rows @ directions.T`` of int8 numbers, packed or not; int32 or float32."""
    if directions.is_mkldnn:
        return _packed_product(rows, directions, features)
    return _plain_product(rows, directions)


def _plain_product(rows: Tensor, directions: Tensor) -> Tensor:
    """Return int32 sums of an int8 product."""
    return torch._int_mm(rows, directions.T)  # pyright: ignore[reportPrivateImportUsage] (it has no other name)


@njit(parallel=True, fastmath=FAST, cache=True)
def _mark_rows(products, of_rows, of_features, bounds, k, limits, marks):
    """Bound each pre-activation from below and above; mark those that can fire."""
    steps, lengths, lost = of_rows
    scale, bias = of_features
    per_length, per_lost, constant = bounds
    rows, n = marks.shape
    for row in prange(rows):
        low, slack = np.empty(n, np.float32), np.empty(n, np.float32)
        coarse, fine = products[row], products[rows + row]
        step, finer = steps[row], steps[row] / np.float32(_FINE)
        length, missing = lengths[row], lost[row]
        for i in range(n):
            near = scale[i] * (np.float32(coarse[i]) * step + np.float32(fine[i]) * finer) + bias[i]
            off = per_length[i] * length + per_lost[i] * missing + constant[i]
            low[i] = near - off
            slack[i] = np.float32(2.0) * off
        if limits.size:
            for i in range(n):
                marks[row, i] = low[i] + slack[i] > limits[i]
        else:
            least = reached_by(low, k)
            for i in range(n):
                high = low[i] + slack[i]
                marks[row, i] = high > np.float32(0.0) and high >= least


@njit(parallel=True, cache=True)
def _look_again(rows, lengths, encoder, per_length, constant, k, limits, marks):
    """Bound the marked pre-activations by float32 sums; unmark those that cannot fire."""
    weight, bias = encoder
    for row in prange(marks.shape[0]):
        own, marked = rows[row], np.flatnonzero(marks[row])
        low, high = np.empty(marked.size, np.float32), np.empty(marked.size, np.float32)
        for t in range(marked.size):
            f = marked[t]
            near = dot(own, weight[f]) + bias[f]
            off = per_length[f] * lengths[row] + constant[f]
            low[t], high[t] = near - off, near + off
        least = np.float32(0)
        if not limits.size:
            least = reached_by(low, k)
        for t in range(marked.size):
            f = marked[t]
            if limits.size:
                marks[row, f] = high[t] > limits[f]
            else:
                marks[row, f] = high[t] > np.float32(0) and high[t] >= least
