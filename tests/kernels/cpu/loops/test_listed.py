"""The best of each row among listed features, merged from chunks of all."""

import pytest
import torch

from isogloss.kernels import Workspace
from isogloss.kernels.cpu.loops.chunks import chunks
from isogloss.kernels.cpu.loops.listed import BestListed

ROWS, WIDTH, FEATURES, K = 40, 24, 90, 3


@pytest.mark.parametrize("names", ["features", "places"])
def test_features_are_chosen_by_value_and_among_equals_by_number(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isogloss.kernels.cpu.loops.chunks._CHUNK_BYTES", 16 * 4 * 48)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(FEATURES, WIDTH, generator=generator)
    bias = torch.randn(FEATURES, generator=generator)
    weight[70], bias[70] = weight[9], bias[9]  # equal on every row, in different chunks
    x = torch.randn(ROWS, WIDTH, generator=generator)
    listed = torch.tensor([0, 9, 12, 33, 70, 89], dtype=torch.int32)
    named = listed if names == "features" else torch.arange(6, dtype=torch.int32)
    best = BestListed(listed, named, torch.zeros(ROWS, K), torch.zeros(ROWS, K, dtype=torch.int32))
    for chunk in chunks(x, weight, bias, Workspace()):
        best.merge(chunk)
    pre = torch.relu(x @ weight.T + bias)[:, listed.long()]
    for row in range(ROWS):
        order = sorted(range(6), key=lambda n, own=row: (-round(float(pre[own, n]), 4), n))
        wanted = [n for n in order[:K] if pre[row, n] > 0]
        found = best.values[row] > 0
        assert best.indices[row, found].tolist() == [int(named[n]) for n in wanted]
        torch.testing.assert_close(best.values[row, found], pre[row, wanted])
        assert not best.values[row, len(wanted) :].any()
