"""Selection of the largest of each row, whole and in chunks."""

import pytest
import torch
from torch import Tensor

from isogloss.kernels.cpu.loops.select import (
    fill_topk,
    merge_all,
    merge_topk,
    select_topk,
)

NAN, INF = float("nan"), float("inf")


def expected(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    activations = torch.relu(pre)
    order = torch.sort(activations, dim=1, descending=True, stable=True).indices[:, :k]
    return activations.gather(1, order), order.int()


def awkward_rows(features: int) -> Tensor:
    pre = torch.randn(16, features)
    pre[0] = -1
    pre[1] = 0.5
    pre[2, features // 2] = NAN
    pre[3, 0] = -NAN
    pre[4, : features // 3] = INF
    pre[5] = (pre[5] * 2).round() / 2
    pre[6] = pre[6].sort().values
    pre[7] = pre[7].sort(descending=True).values
    pre[8] = torch.where(torch.rand(features) < 0.99, -pre[8].abs(), pre[8])
    pre[9] = -INF
    pre[10, features // 2 :] = 3.0  # more ties than k
    pre[11, : 8 * (features // 64)] += 100.0  # every winner in a few places
    pre[12, :: max(1, features // 8)] += 100.0  # every winner in one folded group
    return pre


@pytest.mark.parametrize(
    ("features", "k"),
    [(f, k) for f in (1, 7, 64, 130, 1031, 3072, 12289) for k in (1, 3, 32, 130) if k <= f],
)
def test_selection_is_exact_with_ties_by_lowest_feature(features: int, k: int) -> None:
    torch.manual_seed(0)
    pre = awkward_rows(features)
    values, indices = select_topk(pre.clone(), k)
    wanted, order = expected(pre, k)
    torch.testing.assert_close(indices, order, rtol=0, atol=0, msg=lambda m: f"indices: {m}")
    torch.testing.assert_close(values, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("k", [1, 32, 130])
@pytest.mark.parametrize("chunk", [64, 500, 2048])
def test_selection_in_chunks_equals_selection_at_once(k: int, chunk: int) -> None:
    torch.manual_seed(0)
    pre = awkward_rows(3000)
    pre[13], pre[14] = torch.linspace(-1, 9, 3000), torch.linspace(9, -1, 3000)
    pre[15] = torch.linspace(-5, 5, 3000).round()
    values, indices = torch.zeros(16, k), torch.zeros(16, k, dtype=torch.int32)
    for start in range(0, 3000, chunk):
        part = pre[:, start : start + chunk].contiguous()
        merge_all(part, part.shape[1], start, values, indices)
    fill_topk(values, indices)
    wanted, order = expected(pre, k)
    torch.testing.assert_close(indices, order, rtol=0, atol=0, msg=lambda m: f"indices: {m}")
    torch.testing.assert_close(values, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("k", [1, 5, 32])
def test_selection_among_features_in_chunks_equals_selection_of_their_columns(k: int) -> None:
    torch.manual_seed(0)
    pre = torch.randn(9, 3000)
    candidates = torch.randperm(3000)[:1200].sort().values.int()
    values, indices = torch.zeros(9, k), torch.zeros(9, k, dtype=torch.int32)
    for start in (0, 1000, 2000):
        here = candidates[(candidates >= start) & (candidates < start + 1000)]
        part = pre[:, start : start + 1000].contiguous()
        merge_topk(part, torch.stack((here - start, here)), values, indices)
    wanted, order = expected(pre[:, candidates.long()], k)
    assert torch.equal(values, wanted)
    assert torch.equal(indices, candidates[order.long()])
