"""Screening by 8 bits loses no feature: what is left encodes to the same codes."""

import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import (
    cpu,
    encode_threshold,
    encode_topk,
    make_screen,
    screen_threshold,
    screen_topk,
    screening_pays,
)
from isogloss.kernels.screen import MOST_ROWS

FEATURES, WIDTH, K = 4096, 64, 8


@pytest.fixture(autouse=True)
def _screens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screen where the 8-bit product is right, also where float32 is quicker."""
    monkeypatch.setattr(cpu.screen, "is_quicker", cpu.screen.multiplies_bytes)


def _encoder(seed: int) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    weight = torch.randn(FEATURES, WIDTH, generator=chance)
    return weight, 0.5 * torch.randn(FEATURES, generator=chance)


def _whole_numbers(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows and an encoder whose products are exact in float32, in whatever order."""
    chance = torch.Generator().manual_seed(seed)
    x = torch.randint(-99, 100, (7, WIDTH), generator=chance).float()
    weight = torch.randint(-99, 100, (FEATURES, WIDTH), generator=chance).float()
    return x, weight, torch.randint(-999, 1000, (FEATURES,), generator=chance).float()


@pytest.mark.parametrize("seed", range(5))
def test_the_features_left_encode_to_the_same_codes(seed: int):
    x, weight, bias = _whole_numbers(seed)
    left = screen_topk(x, make_screen(weight, bias), K)
    assert left is not None
    assert K * len(x) < len(left) < FEATURES // 2
    wanted = encode_topk(x, weight, bias, K)
    found = encode_topk(x, weight[left], bias[left], K)
    assert torch.equal(found.values, wanted.values)
    assert torch.equal(left[found.indices.long()], wanted.indices.long())


@pytest.mark.parametrize("by", ["topk", "threshold"])
def test_a_second_look_leaves_fewer_features_and_all_that_fire(by: str):
    chance = torch.Generator().manual_seed(8)
    weight, bias = _encoder(8)
    x = torch.randn(9, WIDTH, generator=chance)
    screen = make_screen(weight, bias)
    assert screen.weight is not None
    blind = replace(screen, weight=None)
    exact = x.double() @ weight.double().T + bias.double()
    if by == "topk":
        first, left = screen_topk(x, blind, K), screen_topk(x, screen, K)
        fires = exact.topk(K).indices
    else:
        limit = float(exact.quantile(0.995))
        first, left = screen_threshold(x, blind, limit), screen_threshold(x, screen, limit)
        fires = (exact > limit).nonzero()[:, 1]
    assert first is not None
    assert left is not None
    assert len(left) < 0.9 * len(first)
    assert set(fires.flatten().tolist()) <= set(left.tolist())


def test_of_equal_features_none_is_left_out():
    x, weight, bias = _whole_numbers(0)
    weight[1000:1100], bias[1000:1100] = weight[3], 1e7  # a hundred that tie
    left = screen_topk(x, make_screen(weight, bias), K)
    assert left is not None
    assert set(range(1000, 1100)) <= set(left.tolist())


def test_a_row_on_which_fewer_fire_is_filled_up_with_the_same_features():
    x, weight, bias = _whole_numbers(1)
    bias.fill_(-1e6)
    bias[[77, 2000]] = 1e6
    left = screen_topk(x, make_screen(weight, bias), K)
    assert left is not None
    assert left.tolist() == [*range(14), 77, 2000]  # features 0 to 7, and up to an even 16
    found = encode_topk(x, weight[left], bias[left], K)
    assert torch.equal(left[found.indices.long()], encode_topk(x, weight, bias, K).indices.long())


@pytest.mark.parametrize("per_feature", [True, False])
def test_the_features_left_by_thresholds_fire_the_same(per_feature: bool):
    x, weight, bias = _whole_numbers(2)
    limits = torch.full((FEATURES,), 60_000.0) + 100 * torch.arange(FEATURES).remainder(7)
    threshold = limits if per_feature else 60_000.0
    left = screen_threshold(x, make_screen(weight, bias), threshold)
    assert left is not None
    part = limits[left] if per_feature else threshold
    wanted = encode_threshold(x, weight, bias, threshold)
    found = encode_threshold(x, weight[left], bias[left], part)
    assert len(wanted.values)
    assert torch.equal(found.values, wanted.values)
    assert torch.equal(left[found.indices.long()], wanted.indices.long())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_one_huge_number_in_each_direction_loses_nothing(scale: float):
    weight, bias = _encoder(3)
    weight[:, 5] = 50 * weight[:, 5]  # the others are rounded to few steps
    x = scale * torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(4))
    exact = x.double() @ weight.double().T + bias.double()
    left = screen_topk(x, make_screen(weight, bias), K)
    kept = set(range(FEATURES) if left is None else left.tolist())
    assert set(exact.topk(K).indices.flatten().tolist()) <= kept


def test_where_screening_helps_nothing_all_features_stand():
    weight, bias = _encoder(5)
    screen, x = make_screen(weight, bias), torch.randn(3, WIDTH)
    assert screen_topk(x, screen, K) is not None
    assert screen_topk(torch.randn(MOST_ROWS + 1, WIDTH), screen, K) is None  # too many rows
    assert screen_topk(torch.empty(0, WIDTH), screen, K) is None
    assert screen_topk(x, screen, FEATURES - 1) is None  # nearly all are left
    assert screen_threshold(x, screen, 0.0) is None
    for number in (float("nan"), float("inf"), 1e35):
        assert screen_topk(torch.where(x == x[1, 2], number, x), screen, K) is None
    without_bias = make_screen(weight, torch.zeros(FEATURES))
    assert screen_topk(1e-38 * x, without_bias, K) is None  # no 8 bits are left of such rows


def test_arguments_that_do_not_fit_are_refused():
    weight, bias = _encoder(6)
    screen = make_screen(weight, bias)
    with pytest.raises(ShapeError, match="x is"):
        screen_topk(torch.randn(3, WIDTH + 1), screen, K)
    with pytest.raises(InvalidInput, match="k is 0"):
        screen_topk(torch.randn(3, WIDTH), screen, 0)
    with pytest.raises(ShapeError, match="threshold"):
        screen_threshold(torch.randn(3, WIDTH), screen, torch.zeros(3))
    with pytest.raises(InvalidInput, match="weight holds 1 values that are not finite"):
        make_screen(torch.where(weight == weight[1, 1], torch.inf, weight), bias)


@pytest.mark.skipif(not cpu.screen._packs(), reason="this torch packs no 8-bit directions")
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 5), (40, 12, 40), (128, 65, 33), (6, 1000, 7)])
def test_packed_directions_give_the_whole_sums(sizes: tuple[int, int, int]):
    rows, width, features = sizes
    chance = torch.Generator().manual_seed(width)
    left, right = (
        torch.randint(-127, 128, (count, width), generator=chance).to(torch.int8)
        for count in (rows, features)
    )
    found = cpu.screen._packed_product(left, cpu.screen._pack(right), features)
    assert torch.equal(found.long(), left.long() @ right.long().T)


@pytest.mark.skipif(not cpu.screen.multiplies_bytes(), reason="no 8-bit product is right here")
@pytest.mark.parametrize("slow", ["_packed_product", "_plain_product"])
def test_a_product_that_is_right_and_takes_a_loop_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, slow: str
):
    quick, screen = getattr(cpu.screen, slow), cpu.screen
    asked = {"_packed_product": screen._packs, "_plain_product": screen.multiplies_bytes}[slow]

    def by_a_loop(*arguments: Tensor) -> Tensor:
        time.sleep(0.2)  # of so few numbers oneDNN's loop takes hundreds of times as long
        return quick(*arguments)

    monkeypatch.setattr(screen, slow, by_a_loop)
    assert asked.__wrapped__() is False


@pytest.mark.skipif(not cpu.screen.multiplies_bytes(), reason="no 8-bit product is right here")
def test_where_float32_is_quicker_nothing_is_screened(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    quick = cpu.screen._product

    def slowly(rows: Tensor, directions: Tensor, features: int) -> Tensor:
        time.sleep(0.2)
        return quick(rows, directions, features)

    monkeypatch.setattr(cpu.screen, "_product", slowly)
    assert cpu.screen.is_quicker.__wrapped__() is False
    monkeypatch.setattr(cpu.screen, "is_quicker", lambda: False)
    x, weight, bias = _whole_numbers(3)
    assert not screening_pays()
    assert screen_topk(x, make_screen(weight, bias), K) is None
    assert screen_threshold(x, make_screen(weight, bias), 1.0) is None


@pytest.mark.skipif(not cpu.screen._packs(), reason="this torch packs no 8-bit directions")
def test_beyond_24_bits_packed_sums_are_rounded_once():
    ends = torch.full((3, 4096), 127, dtype=torch.int8)
    ends[1, ::7], ends[2] = -126, -127
    found = cpu.screen._packed_product(ends, cpu.screen._pack(ends), 3)
    assert torch.equal(found, (ends.long() @ ends.long().T).float())


def test_directions_that_are_not_packed_leave_the_same_features(monkeypatch: pytest.MonkeyPatch):
    x, weight, bias = _whole_numbers(3)
    wanted = screen_topk(x, make_screen(weight, bias), K)
    monkeypatch.setattr(cpu.screen, "_packs", lambda: False)
    plain = make_screen(weight, bias)
    assert not plain.steps.is_mkldnn
    found = screen_topk(x, plain, K)
    assert wanted is not None
    assert found is not None
    assert torch.equal(found, wanted)


def test_a_screen_takes_a_quarter_of_the_encoder():
    weight = torch.randn(512, 768)
    assert make_screen(weight, torch.zeros(512)).nbytes < 0.26 * weight.nbytes
