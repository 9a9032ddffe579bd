"""Pre-activations come a piece at a time, in order and whole."""

import pytest
import torch

from isogloss.kernels.cpu.loops import chunks as module
from isogloss.kernels.cpu.loops.chunks import chunks
from isogloss.kernels.values.workspace import Workspace


@pytest.mark.parametrize(("rows", "features"), [(1, 1), (16, 32), (17, 33), (40, 70), (0, 5)])
@pytest.mark.parametrize("is_scaled", [False, True])
def test_pieces_join_to_the_whole_product(
    monkeypatch: pytest.MonkeyPatch, rows: int, features: int, is_scaled: bool
) -> None:
    assert (module._CHUNK_BYTES, module._ROWS, module._EVEN) == (24 << 20, 2048, 16)
    monkeypatch.setattr(module, "_ROWS", 16)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 4 * 16 * 40)  # two steps of 16 features and a bit
    torch.manual_seed(1)
    x, weight, bias = torch.randn(rows, 3), torch.randn(features, 3), torch.randn(features)
    scale = torch.rand(features) + 0.5 if is_scaled else None
    found = torch.full((rows, features), torch.nan)
    places: list[tuple[int, int, int, int]] = []
    for piece in chunks(x, weight, bias, Workspace(), scale):
        assert piece.pre.shape[1] >= piece.size
        places.append((piece.rows.start, piece.rows.stop, piece.start, piece.size))
        found[piece.rows, piece.start : piece.start + piece.size] = piece.pre[:, : piece.size]
    wanted = x @ weight.T + bias
    torch.testing.assert_close(found, wanted if scale is None else wanted * scale)
    assert places == [
        (top, min(top + 16, rows), start, min(32, features - start))
        for top in range(0, rows, 16)
        for start in range(0, features, 32)
    ]
