"""Tile sizes of the Triton kernels, each with its reason."""

from dataclasses import dataclass, replace

import torch

from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeConfig:
    """Tile of the fused encoder: a program takes ``rows`` rows, ``columns * tiles`` features."""

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
    repair_rows: int
    """Rows of the tile that repairs one row; with tensor cores ``rows``, for equal bits."""

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "kept", "depth"):
            value = getattr(self, name)
            if value < 1 or value & (value - 1):
                raise InvalidInput(f"{name} is {value}; a power of two is wanted")
        if self.columns * self.tiles > 1 << 15:
            raise InvalidInput(
                f"columns * tiles is {self.columns * self.tiles}; places are kept in 15 bits"
            )


ENCODE_HALF = EncodeConfig(
    rows=128, columns=128, tiles=6, kept=8, depth=64, warps=8, stages=3, repair_rows=128
)
"""bfloat16 and float16. A candidate is 6 bytes, written and read once: with 8 for 768 features that
is 0.28 of the floor at 4096 x 768 -> 24576. With k = 32 and winners spread evenly a program expects
one, and hides some (8 or more) in one row of 3,000. Four tiles would cost 0.42, eight five times
the repairs."""

ENCODE_HALF_BLACKWELL = EncodeConfig(
    rows=64, columns=128, tiles=6, kept=8, depth=64, warps=8, stages=3, repair_rows=64
)
"""sm100: accumulators pass from tensor memory to registers, where 128 rows spilled."""

ENCODE_FLOAT = EncodeConfig(
    rows=64, columns=64, tiles=12, kept=8, depth=16, warps=8, stages=3, repair_rows=16
)
"""float32: full precision runs without tensor cores, and 64 x 128 spilled registers on sm90. Its
sums run along the width whatever the tile, so a repair takes a small one (64 rows spilled
on sm80)."""


MOST_REGISTERS = 255
"""Registers a thread of the selection and the repair may use, told to ptxas aloud: left to itself
it stopped at 64, 80 or 128 of them for occupancy, and spilled. Fits programs of up to 8 warps."""


def register_limit(device: torch.device) -> dict[str, int]:
    """Launch option for :data:`MOST_REGISTERS`; AMD's compiler does not know it."""
    on_nvidia = device.type == "cuda" and torch.version.hip is None
    return {"maxnreg": MOST_REGISTERS} if on_nvidia else {}


def encode_config(dtype: torch.dtype, device: torch.device) -> EncodeConfig:
    """The tile for weights of that dtype on that device."""
    if dtype == torch.float32:
        return ENCODE_FLOAT
    if device.type == "cuda" and torch.version.hip is None:
        return half_config(torch.cuda.get_device_capability(device)[0])
    return ENCODE_HALF


def fitted(config: EncodeConfig, k: int, features: int) -> EncodeConfig:
    """The tile for ``k`` of ``features``: fewer features a program, or more candidates kept.

    A program expects ``k * columns * tiles / features`` winners of a row. Up to one, 8 candidates
    hide a winner in one row of thousands (Poisson); above, the numbers below keep it under 1e-6.
    """
    a_tile = k * config.columns / features
    tiles = max(1, min(config.tiles, int(1 / a_tile)))
    expected = a_tile * tiles
    kept = config.kept
    if expected > 1:
        found = (kept for most, kept in ((3, 16), (12, 32), (30, 64)) if expected <= most)
        kept = min(next(found, config.columns), config.columns)
    return replace(config, tiles=tiles, kept=kept)


def half_config(major: int) -> EncodeConfig:
    """The tile for bfloat16 and float16, by NVIDIA's major compute capability."""
    return ENCODE_HALF_BLACKWELL if major == 10 else ENCODE_HALF
