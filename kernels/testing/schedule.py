# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportAttributeAccessIssue=false, reportMissingTypeArgument=false
# (triton's interpreter and compiler are untyped, and replaced in place)
"""Run the programs of every launch in another order.

A kernel whose bits depend on the order of its programs (float atomics, maps built by atomics) shows
within a few permutations. Within :func:`isogloss.kernels.testing.interpreter.interpreter` only.
"""

import itertools
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
from triton.runtime import interpreter as runtime


@contextmanager
def shuffled(seed: int) -> Generator[None]:
    """Visit the programs of each launch in the order drawn by ``seed``."""
    builder = runtime.interpreter_builder
    visit = builder.set_grid_idx
    orders: dict[tuple[int, ...], dict[tuple[int, ...], tuple[int, ...]]] = {}

    def permuted(x: int, y: int, z: int) -> None:
        grid = tuple(builder.grid_dim)
        if grid not in orders:
            programs = list(itertools.product(*(range(size) for size in grid)))
            drawn = np.random.default_rng(seed).permutation(len(programs))
            orders[grid] = dict(zip(programs, (programs[i] for i in drawn), strict=True))
        visit(*orders[grid][x, y, z])

    builder.set_grid_idx = permuted
    try:
        yield
    finally:
        builder.set_grid_idx = visit
