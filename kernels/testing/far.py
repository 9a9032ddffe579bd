# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportAttributeAccessIssue=false
# (triton's interpreter is untyped, and replaced in place)
"""Run only those programs of a launch that lie far out, where offsets pass 2**31.

There a kernel that multiplies a program's number in 32 bits reads and writes the wrong place. With
tensors from ``torch.empty``, whose pages do not exist until they are touched, such a launch takes
no memory. Within :func:`isogloss.kernels.testing.interpreter.interpreter` only.
"""

from collections.abc import Generator
from contextlib import contextmanager

from triton.runtime import interpreter as runtime


@contextmanager
def displaced(x: int = 0, y: int = 0) -> Generator[None]:
    """Add ``x`` and ``y`` to the numbers of the programs of each launch."""
    builder = runtime.interpreter_builder
    visit = builder.set_grid_idx

    def moved(first: int, second: int, third: int) -> None:
        builder.grid_idx = (first + x, second + y, third)

    builder.set_grid_idx = moved
    try:
        yield
    finally:
        builder.set_grid_idx = visit
