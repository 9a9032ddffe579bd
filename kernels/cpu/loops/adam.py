# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""Adam, projection and normalising of one vector, in float32 and one order of sums."""

import numpy as np
from numba import njit

from isogloss.kernels.cpu.loops.sums import dot


def adam_constants(
    learning_rate: float, beta1: float, beta2: float, epsilon: float, step: int
) -> tuple[np.float32, ...]:
    """Step size over bias correction, root correction, both decays, epsilon; float32."""
    return (
        np.float32(learning_rate / (1 - beta1**step)),
        np.float32(1 / np.sqrt(1 - beta2**step)),
        np.float32(beta1),
        np.float32(beta2),
        np.float32(epsilon),
    )


@njit(cache=True, error_model="numpy")  # Python's check for a zero divisor kept it scalar
def adam(parameter, first, second, gradient, constants) -> None:
    """One step of Adam on a vector, in place; ``constants`` by :func:`adam_constants`."""
    rate, root, beta1, beta2, epsilon = constants
    rest1, rest2 = np.float32(1) - beta1, np.float32(1) - beta2
    for i in range(parameter.size):
        slope = gradient[i]
        mean = beta1 * first[i] + rest1 * slope
        square = beta2 * second[i] + rest2 * slope * slope
        first[i] = mean
        second[i] = square
        parameter[i] -= rate * mean / (np.sqrt(square) * root + epsilon)


@njit(cache=True)
def project(gradient, direction) -> None:
    """Remove from ``gradient`` its part along ``direction``, in place."""
    squared = dot(direction, direction)
    if squared > 0:
        share = dot(gradient, direction) / squared
        for i in range(direction.size):
            gradient[i] -= share * direction[i]


@njit(cache=True)
def normalise(direction) -> None:
    """Divide a vector by its norm, in place; zero stays zero."""
    squared = dot(direction, direction)
    if squared > 0:
        scale = np.float32(1) / np.sqrt(squared)
        for i in range(direction.size):
            direction[i] *= scale


@njit(cache=True)
def keep_columns(gradient, first, last) -> None:
    """Set a gradient row to 0 outside the columns from ``first`` up to ``last``."""
    gradient[:first] = np.float32(0)
    gradient[last:] = np.float32(0)
