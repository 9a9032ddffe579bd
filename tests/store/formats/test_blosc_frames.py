"""Our blosc frames, decompressed by others."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numcodecs import blosc  # pyright: ignore[reportAttributeAccessIssue] - a compiled module

from isogloss.store.formats.blosc_frames import FrameCompressor

CHANCE = np.random.default_rng(0)
KINDS = {
    "bfloat16": CHANCE.normal(0, 1, 24_576).astype(ml_dtypes.bfloat16),
    "float16": CHANCE.normal(0, 1, 24_576).astype(np.float16),
    "float32": CHANCE.normal(0, 1, 24_576).astype(np.float32),
    "beyond 1 MiB": CHANCE.normal(0, 1, 700_000).astype(ml_dtypes.bfloat16),
    "zeros": np.zeros(4096, np.float32),
    "noise": CHANCE.integers(0, 1 << 16, 4096).astype(np.uint16),
    "one number": np.ones(1, np.float32),
    "127 numbers": np.ones(127, np.float16),
    "128 numbers": np.ones(128, np.float16),
    "runs": np.repeat(np.arange(96, dtype=np.float32), 32),
}


def theirs(frame: bytes) -> bytes:
    return bytes(blosc.decompress(frame))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType] - as above


def encoded(values: np.ndarray) -> bytes:
    return FrameCompressor(values.itemsize).encode(values.view(np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_blosc_gives_back_what_was_compressed(kind: str) -> None:
    values = KINDS[kind]
    frame = encoded(values)
    assert theirs(frame) == values.tobytes()
    assert len(frame) <= 16 + values.nbytes


@given(arrays(np.uint16, st.integers(1, 600), elements=st.integers(0, 700)))
def test_any_numbers_come_back(values: np.ndarray) -> None:
    assert theirs(encoded(values)) == values.tobytes()


def test_the_head_is_that_which_blosc_writes() -> None:
    values = KINDS["bfloat16"].view(np.uint16)
    own: bytes = blosc.Blosc("zstd", 1, blosc.SHUFFLE, 1 << 20, 2).encode(values)
    ours = encoded(values)
    without_split = own[2] & ~0x10
    assert (ours[:2], ours[2], ours[3:12]) == (own[:2], without_split, own[3:12])
    assert int.from_bytes(ours[12:16], "little") == len(ours)


def test_one_compressor_gives_equal_bytes_for_equal_chunks() -> None:
    compressor = FrameCompressor(2)
    values = KINDS["bfloat16"].view(np.uint8)
    first = compressor.encode(values)
    compressor.encode(KINDS["noise"].view(np.uint8))
    assert compressor.encode(values) == first == encoded(KINDS["bfloat16"])
