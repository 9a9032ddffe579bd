"""Formulas for the bytes that the fused encoder moves; the meter counts the same on small shapes.

``dram`` is what a launch must read and write with a perfect cache; ``l2`` is what its programs ask
of the L2 cache, each time they ask, in sectors of 32 bytes. Written for shapes that fill sectors:
rows of ``x`` and of the weights in multiples of 32 bytes, features a multiple of a program's, and
``k`` a multiple of 8.
"""

from dataclasses import dataclass

from isogloss.kernels.gpu.configs import EncodeConfig, repair_tile

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
    kept = shape.rows * _programs(shape, config) * config.kept
    out = shape.rows * shape.k * 8
    flags = shape.rows * _SECTOR
    return Bytes(dram=kept * 6 + out + shape.rows * 4, l2=kept * 10 + out + flags)


def repair_bytes(shape: EncodeShape, config: EncodeConfig, hiding: list[int]) -> Bytes:
    """Return the bytes that the repairing kernel moves.

    Args:
        shape: sizes of the encode.
        config: the tile of the candidates.
        hiding: for each row that is repaired, how many programs are computed again. Their weights
            count for every row, so that this is an upper bound where rows share a program.

    Returns:
        The bytes of the launch.
    """
    programs, line = _programs(shape, config), shape.width * shape.size
    tile = repair_tile(config)
    count, again = len(hiding), sum(hiding)
    out, kept = count * shape.k * 8, count * programs * config.kept
    features = again * config.columns * config.tiles
    bias = _strided(tile["COLUMNS"], 4 * programs) * tile["TILES"]
    bound = count * _SECTOR  # the value that the repair must reach
    dram = kept * 6 + out + count * line + features * line + again * bias + bound
    heads = count * programs * _sectors(config.kept * 4)
    loads = again * tile["TILES"] * line + features * line + again * bias
    l2 = shape.rows * _SECTOR + bound + kept * 6 + heads + loads + out
    return Bytes(dram=dram + shape.rows * 4, l2=l2)


def encode_bytes(shape: EncodeShape, config: EncodeConfig, hiding: list[int]) -> Bytes:
    """Bytes of all three kernels of ``encode_topk``."""
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
