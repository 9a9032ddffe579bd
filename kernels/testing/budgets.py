"""Formulas for the bytes that the fused encoder moves; the meter counts the same on small shapes.

``dram`` is what a launch must read and write with a perfect cache; ``l2`` is what its programs ask
of the L2 cache, each time they ask, in sectors of 32 bytes. Written for shapes that fill sectors:
rows of ``x`` and of the weights in multiples of 32 bytes, features a multiple of a program's, and
``k`` a multiple of 8.
"""

from dataclasses import dataclass

from torch import Tensor

from isogloss.kernels.gpu.configs import EncodeConfig

_SECTOR = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeShape:
    """Numbers of rows, columns and features of one encode."""

    rows: int
    """Rows of ``x``."""
    width: int
    """Width of the model."""
    features: int
    """Features of the dictionary."""
    k: int
    """Entries of a row."""
    size: int
    """Bytes of a number of ``x`` and of the weights; the bias is float32."""

    @property
    def floor(self) -> int:
        """Every input read once, every output written once."""
        inputs = (self.rows + self.features) * self.width * self.size + self.features * 4
        return inputs + self.rows * self.k * 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Bytes:
    """Bytes moved, of two kinds."""

    dram: int
    """With a perfect cache, by launch."""
    l2: int
    """Asked of the L2 cache."""


def candidate_bytes(shape: EncodeShape, config: EncodeConfig) -> Bytes:
    """Bytes of the kernel that multiplies and keeps the candidates."""
    programs = _programs(shape, config)
    row_tiles = -(-shape.rows // config.rows)
    line = shape.width * shape.size
    kept = shape.rows * programs * config.kept
    read = (shape.rows + shape.features) * line + shape.features * 4
    tiles = shape.rows * line * programs * config.tiles + shape.features * line * row_tiles
    biases = row_tiles * programs * config.tiles * _strided(config.columns, 4 * programs)
    written = shape.rows * programs * (_sectors(config.kept * 4) + _sectors(config.kept * 2))
    return Bytes(dram=read + kept * 6, l2=tiles + biases + written)


def select_bytes(shape: EncodeShape, config: EncodeConfig) -> Bytes:
    """Bytes of the kernel that selects among the candidates and sets the certificate."""
    programs = _programs(shape, config)
    kept = shape.rows * programs * config.kept
    out = shape.rows * shape.k * 8
    flags, again = shape.rows * _SECTOR, 0
    dram = kept * 6 + out + shape.rows * 4
    if most_hiding(shape, config):
        ranks = shape.rows * programs * 2
        dram, flags, again = dram + ranks, flags + shape.rows * _sectors(programs * 2), kept * 6
    return Bytes(dram=dram, l2=kept * 6 + again + out + flags)


def most_hiding(shape: EncodeShape, config: EncodeConfig) -> int:
    """How many programs may hide a winner on one row."""
    if config.kept >= config.columns * config.tiles:
        return 0
    return min(shape.k // config.kept, _programs(shape, config))


def tiles_again(hiding: Tensor, config: EncodeConfig) -> int:
    """Count the programs and blocks of rows that the repair computes.

    Args:
        hiding: bool ``[rows, programs]``, as ``selection.select`` gives it.
        config: the tile of the candidates.

    Returns:
        How many; the first pass takes ``programs`` for every block of rows.
    """
    return int((hiding.sum(0) + config.rows - 1).div(config.rows, rounding_mode="floor").sum())


def repair_bytes(shape: EncodeShape, config: EncodeConfig, hiding: Tensor) -> Bytes:
    """Return the bytes that the three kernels of the repair move, at most.

    Numbers that are gathered count a sector each; where neighbours share one it is fewer.

    Args:
        shape: sizes of the encode.
        config: the tile of the candidates.
        hiding: bool ``[rows, programs]``: which programs hide on which rows; all rows at once.

    Returns:
        The bytes of the launches.
    """
    if not most_hiding(shape, config):
        return Bytes(dram=0, l2=0)
    programs, line = _programs(shape, config), shape.width * shape.size
    span, pairs, flagged = (
        config.columns * config.tiles,
        int(hiding.sum()),
        int(hiding.any(1).sum()),
    )
    used, blocks = int(hiding.any(0).sum()), -(-shape.rows // config.rows)
    flags, dense = _sectors(shape.rows * 4), pairs * span * 4
    ranks = flagged * _sectors(programs * 2)
    directions = span * (line + _SECTOR)  # of one program, with their biases
    kept = (flagged * programs - pairs) * config.kept * 6 + flagged * programs * _SECTOR
    out = flagged * shape.k * 8
    again = pairs * (2 * _SECTOR + line + span * 4)
    dram = 2 * flags + _sectors(programs * 4) * 2 + pairs * _SECTOR * 2 + 3 * ranks
    dram += flagged * line + used * directions + 2 * dense + kept + out
    listed = programs * (flags + _SECTOR) + flagged * programs * _SECTOR + pairs * _SECTOR
    counts = programs * blocks * 2 * _SECTOR
    tiles = -(-span // min(config.columns, 64))
    computed = again + pairs * line * (tiles - 1) + tiles_again(hiding, config) * directions
    merged = shape.rows * _SECTOR + kept + 2 * flagged * programs * _SECTOR + dense + out
    return Bytes(dram=dram, l2=listed + counts + computed + merged)


def encode_bytes(shape: EncodeShape, config: EncodeConfig, hiding: Tensor) -> Bytes:
    """Bytes of all kernels of ``encode_topk``; ``hiding`` as for :func:`repair_bytes`."""
    parts = (
        candidate_bytes(shape, config),
        select_bytes(shape, config),
        repair_bytes(shape, config, hiding),
    )
    return Bytes(dram=sum(part.dram for part in parts), l2=sum(part.l2 for part in parts))


def gemm_bytes(shape: EncodeShape, rows: int, columns: int) -> Bytes:
    """Bytes of a GEMM with bias in tiles of ``rows x columns``, which writes its dense output."""
    line, dense = shape.width * shape.size, shape.rows * shape.features * shape.size
    row_tiles, column_tiles = -(-shape.rows // rows), -(-shape.features // columns)
    read = (shape.rows + shape.features) * line + shape.features * 4
    tiles = shape.rows * line * column_tiles + (shape.features * line) * row_tiles
    return Bytes(dram=read + dense, l2=tiles + shape.features * 4 * row_tiles + dense)


def _programs(shape: EncodeShape, config: EncodeConfig) -> int:
    return -(-shape.features // (config.columns * config.tiles))


def _sectors(size: int) -> int:
    return -(-size // _SECTOR) * _SECTOR


def _strided(count: int, stride: int) -> int:
    """Bytes of the sectors that ``count`` numbers of 4 bytes touch, ``stride`` bytes apart."""
    return count * min(_SECTOR, stride)
