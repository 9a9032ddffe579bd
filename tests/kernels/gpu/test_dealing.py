# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportArgumentType=false
# (triton compiles a kernel from the arguments it meets)
"""The dealing of features to programs, and the bound on what a layout can cost the repair."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)

import triton.language as tl  # noqa: E402 (after the check above)

from isogloss.kernels.gpu.configs import EncodeConfig  # noqa: E402
from isogloss.kernels.gpu.dealing import _dealt, dealing, program_of  # noqa: E402
from isogloss.kernels.testing.budgets import tiles_again  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter  # noqa: E402
from isogloss.kernels.testing.selection import exact, select  # noqa: E402

TILE = EncodeConfig(rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)


@triton.jit
def _write_kernel(out_ptr, programs, PLACES: tl.constexpr):
    program = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, PLACES)
    tl.store(out_ptr + place * programs + program, _dealt(place, program, programs))


@pytest.mark.parametrize("programs", [1, 3, 32, 1366])
def test_kernels_deal_as_the_model_does(programs: int) -> None:
    out = torch.empty(256, programs, dtype=torch.int64)
    with interpreter():
        _write_kernel[(min(programs, 7),)](out, programs, PLACES=256)
    wanted = dealing(256 * programs, programs)
    assert torch.equal(out[:, :7], wanted[:, :7])


@settings(max_examples=40, deadline=None)
@given(features=st.integers(1, 5000), programs=st.integers(1, 70))
def test_every_feature_has_one_program_and_programs_ascend(features: int, programs: int) -> None:
    order = dealing(features, programs)
    assert torch.equal(order.flatten().sort().values, torch.arange(order.numel()))
    assert bool((order.diff(dim=0) > 0).all())
    owner = program_of(features, programs)
    counts = torch.bincount(owner, minlength=programs)
    assert counts.max() - counts.min() <= 1
    block = owner[: features // programs * programs].view(-1, programs)
    assert torch.equal(block.sort(1).values, torch.arange(programs).expand_as(block))


@pytest.mark.parametrize("stride", [32, 64, 21 * 32, 96, 1024])
def test_features_a_fixed_distance_apart_spread_over_all_programs(stride: int) -> None:
    """As chance would: a program holds more than four standard deviations above its share of none.

    Dealt by stride, those a multiple of 32 apart were all in one.
    """
    family = program_of(24_576, 32)[::stride]
    share = len(family) / 32
    assert torch.bincount(family, minlength=32).max() <= share + 4 * share**0.5 + 2


@pytest.mark.parametrize("ties", [1, 2, 4, 1000])
def test_no_values_make_more_programs_hide_than_the_bound(ties: int) -> None:
    """``ties``: how many different values there are; all equal at 1."""
    generator = torch.Generator().manual_seed(ties)
    pre = 1 + torch.randint(0, ties, (64, 512), generator=generator).float()
    pre[::2, program_of(512, 8) < 3] += 5  # crowded, too
    for k in (4, 9, 16, 50):
        found = select(pre, k, TILE)
        assert found.hiding.sum(1).max() <= k // TILE.kept
        assert torch.equal(found.indices, exact(pre, k)[1])
        blocks = 64 // TILE.rows
        again = tiles_again(found.hiding, TILE)
        assert again <= 64 * (k // TILE.kept) / TILE.rows + 8
        assert again <= 8 * blocks
