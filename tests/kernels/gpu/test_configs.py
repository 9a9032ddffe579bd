"""The tiles of the Triton encoders."""

import pytest

from isogloss.errors import InvalidInput

triton = pytest.importorskip("triton")

if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)


from isogloss.kernels.gpu.configs import EncodeConfig, fitted  # noqa: E402


def test_tiles_fit_k_and_the_number_of_features() -> None:
    half = EncodeConfig(rows=128, columns=128, tiles=6, kept=8, depth=64, warps=8, stages=3)
    assert (fitted(half, 32, 24_576).tiles, fitted(half, 32, 24_576).kept) == (6, 8)
    assert (fitted(half, 16, 2_048).tiles, fitted(half, 16, 2_048).kept) == (1, 8)
    assert (fitted(half, 512, 24_576).tiles, fitted(half, 512, 24_576).kept) == (1, 16)
    assert fitted(half, 64, 64).kept == 128
    with pytest.raises(InvalidInput, match="kept is 3; a power of two is wanted"):
        EncodeConfig(rows=16, columns=32, tiles=2, kept=3, depth=16, warps=4, stages=2)
    with pytest.raises(InvalidInput, match="places are kept in 15 bits"):
        EncodeConfig(rows=16, columns=1024, tiles=64, kept=4, depth=16, warps=4, stages=2)
