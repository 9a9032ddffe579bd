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
"""bfloat16 and float16 on sm80 and sm89. A candidate is 6 bytes, written and read once: with 8 for
768 features that is 0.28 of the floor at 4096 x 768 -> 24576. With k = 32 and winners spread evenly
a program expects one, and hides some (8 or more) in one row of 3,000. Four tiles would cost 0.42,
eight five times the repairs."""

ENCODE_HALF_LOW = replace(ENCODE_HALF, rows=64)
"""sm100 and sm120: 128 rows spilled, on sm100 where accumulators pass from tensor memory to
registers."""

ENCODE_FLOAT = EncodeConfig(rows=64, columns=64, tiles=12, kept=8, depth=16, warps=8, stages=3)
"""float32: full precision runs without tensor cores, and 64 x 128 spilled registers on sm90."""

ENCODE_FLOAT_CDNA = replace(ENCODE_FLOAT, depth=32)
"""float32 on MI200 and MI300: 8 warps of 64 threads take 128 bits each only of a deeper tile."""

_TABLE = {
    ("sm80", "half"): ENCODE_HALF,
    ("sm89", "half"): ENCODE_HALF,
    ("sm90", "half"): ENCODE_HALF,
    ("sm100", "half"): ENCODE_HALF_LOW,
    ("sm120", "half"): ENCODE_HALF_LOW,
    ("gfx90a", "half"): ENCODE_HALF,
    ("gfx942", "half"): ENCODE_HALF,
    ("sm80", "single"): ENCODE_FLOAT,
    ("sm89", "single"): ENCODE_FLOAT,
    ("sm90", "single"): ENCODE_FLOAT,
    ("sm100", "single"): ENCODE_FLOAT,
    ("sm120", "single"): ENCODE_FLOAT,
    ("gfx90a", "single"): ENCODE_FLOAT_CDNA,
    ("gfx942", "single"): ENCODE_FLOAT_CDNA,
}


MOST_REGISTERS = 255
"""Registers a thread of the selection and the repair may use, told to ptxas aloud: left to itself
it stopped at 64, 80 or 128 of them for occupancy, and spilled. Fits programs of up to 8 warps."""

ROW_REGISTERS = 128
"""The same for programs of up to 16 warps that add rows: one stopped at 40 and spilled two."""


def register_limit(device: torch.device, most: int = MOST_REGISTERS) -> dict[str, int]:
    """Launch option for that many registers a thread; AMD's compiler does not know it."""
    on_nvidia = device.type == "cuda" and torch.version.hip is None
    return {"maxnreg": most} if on_nvidia else {}


def candidate_registers(dtype: torch.dtype, device: torch.device) -> dict[str, int]:
    """Launch option of the kernels that keep candidates: the limit for float32 only.

    Left to itself ptxas stopped at 128 registers in float32, and spilled 6 on sm90 and 4 on sm100.
    """
    return register_limit(device) if dtype == torch.float32 else {}


def architecture(device: torch.device) -> str:
    """Return the architecture of a device, by its name in the table.

    Where the table lacks it, it is the newest older one of the same maker. A CPU, where the
    interpreter runs the kernels, counts as sm80.

    Args:
        device: the device that the kernels run on.

    Returns:
        A name of the table.
    """
    if device.type != "cuda":
        return "sm80"
    if torch.version.hip is not None:
        return (
            "gfx90a"
            if "gfx90a" in torch.cuda.get_device_properties(device).gcnArchName
            else "gfx942"
        )
    major, minor = torch.cuda.get_device_capability(device)
    return _named(10 * major + minor)


def _named(capability: int) -> str:
    """The name of the newest NVIDIA architecture of the table that is not above ``capability``."""
    known = (120, 100, 90, 89, 80)
    return f"sm{next((one for one in known if one <= capability), known[-1])}"


def table_config(name: str, dtype: torch.dtype) -> EncodeConfig:
    """The table's tile for an architecture and a dtype."""
    return _TABLE[name, "single" if dtype == torch.float32 else "half"]


def encode_config(dtype: torch.dtype, device: torch.device) -> EncodeConfig:
    """The tile for weights of that dtype on that device."""
    return table_config(architecture(device), dtype)


_KEPT = ((3, 16), (12, 32), (30, 64))


def candidates_kept(expected: float, few: int, columns: int) -> int:
    """Choose how many candidates of a row a program keeps, for the winners it expects.

    With at most one expected, ``few`` hide a winner in one row of thousands. With more expected,
    so many are kept that they hide one in a row of a million.

    Args:
        expected: winners of a row in a program.
        few: candidates that are kept where at most one winner is expected.
        columns: features of the tile: more cannot be kept.

    Returns:
        The number of candidates, at most ``columns``.
    """
    if expected <= 1:
        return few
    return min(next((kept for most, kept in _KEPT if expected <= most), columns), columns)


def fitted(config: EncodeConfig, k: int, features: int) -> EncodeConfig:
    """Fit a tile to ``k`` of ``features``: fewer features a program, or more candidates kept.

    A program expects ``k * columns * tiles / features`` winners of a row. If that is at most one, 8
    candidates hide a winner in one row of thousands (Poisson); above, :func:`candidates_kept` keeps
    enough that fewer than one row of a million hides one. Candidates stay in registers: where more
    than 16 are kept a program takes fewer rows, and so few warps that each thread still loads 128
    bits of them.

    Args:
        config: the tile from the table.
        k: entries a row.
        features: number of features of the dictionary.

    Returns:
        The tile that is launched.
    """
    a_tile = k * config.columns / features
    tiles = max(1, min(config.tiles, int(1 / a_tile)))
    kept = candidates_kept(a_tile * tiles, config.kept, config.columns)
    rows = config.rows if kept <= 16 else min(config.rows, max(32, 2048 // kept))
    return replace(
        config,
        tiles=tiles,
        kept=kept,
        rows=rows,
        warps=min(config.warps, max(4, rows // 8)),
    )
