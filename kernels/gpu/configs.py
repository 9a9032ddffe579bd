"""Tile sizes of the Triton kernels, each with its reason."""

from dataclasses import dataclass

import torch

from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeConfig:
    """Tile of the fused encoder: one program takes ``rows`` rows and ``columns * tiles`` features."""

    rows: int
    """Rows of a program; a power of two, at least 16."""
    columns: int
    """Features of one GEMM tile; a power of two, at least 16."""
    tiles: int
    """GEMM tiles that one program runs one after another."""
    kept: int
    """Candidates a program keeps for each row; a power of two."""
    depth: int
    """Width taken by one step of the inner loop; a power of two, at least 16."""
    warps: int
    """Warps of a program."""
    stages: int
    """Stages of software pipelining."""

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "kept", "depth"):
            value = getattr(self, name)
            if value < 1 or value & (value - 1):
                raise InvalidInput(f"{name} is {value}; a power of two is wanted")
        if self.columns * self.tiles > 1 << 15:
            raise InvalidInput(
                f"columns * tiles is {self.columns * self.tiles}; places are kept in 15 bits"
            )


ENCODE_HALF = EncodeConfig(rows=128, columns=128, tiles=6, kept=8, depth=64, warps=8, stages=3)
"""bfloat16 and float16. Eight candidates for 768 features cost 6 bytes each, written and read: 1.28 of
the floor at 4096 x 768 -> 24576 with k = 32; and one row in 3,000 is repaired when winners are spread
evenly (Poisson, mean 1 winner a program, 8 or more). Four tiles would cost 1.42, eight repair more."""

ENCODE_FLOAT = EncodeConfig(rows=64, columns=128, tiles=6, kept=8, depth=32, warps=8, stages=3)
"""float32: no tensor cores at full precision, so half the rows keep the accumulators in registers."""


def encode_config(dtype: torch.dtype) -> EncodeConfig:
    """The tile for that dtype of the weights."""
    return ENCODE_FLOAT if dtype == torch.float32 else ENCODE_HALF
