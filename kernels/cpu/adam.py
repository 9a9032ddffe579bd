# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles this function from the arguments it meets; pyright sees it untyped)
"""adam_step on the CPU, by numba: a block of numbers belongs to one thread."""

from numba import njit, prange
from torch import Tensor

from isogloss.kernels.cpu.loops.adam import adam, adam_constants
from isogloss.kernels.cpu.loops.threads import parallel_loops
from isogloss.kernels.reference import AdamSettings

_BLOCK = 4096


def adam_step(
    parameter: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    settings: AdamSettings,
    step: int,
) -> None:
    """``isogloss.kernels.adam_step``."""
    constants = adam_constants(
        settings.learning_rate, settings.beta1, settings.beta2, settings.epsilon, step
    )
    flat, mean, square, slope = (
        tensor.reshape(-1).numpy() for tensor in (parameter, first, second, gradient)
    )
    with parallel_loops():
        _adam_blocks(flat, mean, square, slope, constants)


@njit(parallel=True, cache=True)
def _adam_blocks(parameter, first, second, gradient, constants) -> None:
    size = parameter.size
    for block in prange((size + _BLOCK - 1) // _BLOCK):
        part = slice(block * _BLOCK, min(size, (block + 1) * _BLOCK))
        adam(parameter[part], first[part], second[part], gradient[part], constants)
