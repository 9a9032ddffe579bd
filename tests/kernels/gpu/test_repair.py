"""The repair: exact on the worst layout, in parts, and not begun where nothing can hide."""

import pytest
import torch

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)

from isogloss.kernels import reference  # noqa: E402 (after the check above)
from isogloss.kernels.gpu import encode, repair  # noqa: E402
from isogloss.kernels.gpu.configs import EncodeConfig  # noqa: E402
from isogloss.kernels.gpu.dealing import program_of  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402
from isogloss.kernels.testing.selection import select  # noqa: E402

TILE = EncodeConfig(rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)


@pytest.mark.parametrize("parts", [1, 3])
def test_the_worst_layout_is_repaired_exactly_whatever_memory_there_is(
    monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """All winners of a row in two programs of four, others on other rows; repaired in parts."""
    torch.manual_seed(0)
    rows, width, features, k = 20, 12, 256, 8
    x = torch.randint(-2, 3, (rows, width)).float()
    weight, bias = torch.randint(-1, 2, (features, width)).float(), torch.zeros(features)
    x[:, :2], weight[:, :2] = 0, 0
    owner = program_of(features, 4)
    weight[owner < 2, 0], weight[owner >= 2, 1] = 100, 100
    x[::2, 0], x[1::2, 1] = 1, 1
    monkeypatch.setattr(repair, "DENSE_BYTES", 4 * 2 * 64 * -(-rows // parts))
    with interpreter(), poisoned():
        values, indices, repaired = encode.encode_topk(x, weight, bias, k, TILE)
    wanted, order = reference.encode_topk(x, weight, bias, k)
    assert torch.equal(values, wanted)
    assert torch.equal(indices.long(), order)
    model = select(x @ weight.T, k, TILE)
    assert torch.equal(repaired.bool(), model.repaired)
    assert model.hiding.sum() > rows


def test_lists_that_keep_all_features_are_never_repaired() -> None:
    tile = EncodeConfig(rows=16, columns=16, tiles=1, kept=16, depth=16, warps=4, stages=1)
    x, weight = torch.randint(1, 3, (3, 4)).float(), torch.ones(40, 4)
    with interpreter(), poisoned():
        values, indices, repaired = encode.encode_topk(x, weight, torch.zeros(40), 40, tile)
    assert torch.equal(indices.long(), torch.arange(40).expand(3, 40))
    assert torch.equal(values, x.sum(1, keepdim=True).expand(3, 40))
    assert not repaired.any()
