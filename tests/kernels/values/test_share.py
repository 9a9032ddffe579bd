"""Codes put together from the parts of several processes are those of the whole batch."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor

from isogloss.errors import ShapeError
from isogloss.kernels import (
    AdamMoments,
    Codes,
    RowShare,
    StepResult,
    StepSettings,
    Weights,
    own_part,
    parts_of,
    train_step_batch_topk,
    train_step_topk,
    whole_codes,
)
from isogloss.kernels.values.share import best_codes

T = TypeVar("T")
_WAIT_S = 60


@dataclass
class _Threads:
    """One of several threads that stand for processes."""

    rank: int
    world: int
    _barrier: Barrier
    _said: list[Tensor]

    def together(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        assert len(own) == sizes[self.rank]
        return torch.cat(self._every(own))

    def total(self, own: Tensor) -> Tensor:
        return torch.stack(self._every(own)).sum(0)

    def _every(self, own: Tensor) -> list[Tensor]:
        self._said[self.rank] = own
        self._barrier.wait(_WAIT_S)
        found = [*self._said]
        self._barrier.wait(_WAIT_S)
        return found


def _on_each(world: int, run: Callable[[RowShare], T]) -> list[T]:
    """Run something on so many threads, and return what each gives."""
    barrier, said = Barrier(world), [torch.empty(0)] * world
    shares = [_Threads(rank, world, barrier, said) for rank in range(world)]
    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(run, shares))


def _rows_of(codes: Codes, part: slice) -> Codes:
    if codes.offsets is None:
        return Codes(
            values=codes.values[part], indices=codes.indices[part], features=codes.features
        )
    first, last = int(codes.offsets[part.start]), int(codes.offsets[part.stop])
    return Codes(
        values=codes.values[first:last],
        indices=codes.indices[first:last],
        features=codes.features,
        offsets=codes.offsets[part.start : part.stop + 1] - first,
    )


def _ragged(dense: Tensor) -> Codes:
    rows, features = dense.nonzero(as_tuple=True)
    offsets = torch.zeros(len(dense) + 1, dtype=torch.int64)
    offsets[1:] = (dense != 0).sum(1).cumsum(0)
    return Codes(
        values=dense[rows, features],
        indices=features.int(),
        features=dense.shape[1],
        offsets=offsets,
    )


def _same(found: Codes, wanted: Codes) -> None:
    assert torch.equal(found.values, wanted.values)
    assert torch.equal(found.indices, wanted.indices)
    if wanted.offsets is not None:
        assert found.offsets is not None
        assert torch.equal(found.offsets, wanted.offsets)


@pytest.mark.parametrize("rows", [1, 16, 40, 100])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_parts_cover_the_rows_once_and_are_cut_at_multiples_of_16(rows: int, world: int) -> None:
    parts = parts_of(rows, world)
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(rows))
    assert all(part.start % 16 == 0 or part.start == rows for part in parts)
    assert own_part(rows, None) == slice(0, rows)


@pytest.mark.parametrize("rows", [10, 40])  # of 10 rows one process has all
def test_codes_of_all_rows_are_put_together_of_both_forms(rows: int) -> None:
    chance = torch.Generator().manual_seed(0)
    dense = torch.rand(rows, 24, generator=chance) * (torch.rand(rows, 24, generator=chance) < 0.3)
    values, indices = dense.topk(4)
    fixed = Codes(values=values, indices=indices.int(), features=24)
    for wanted in (fixed, _ragged(dense)):
        found = _on_each(
            3, lambda share, c=wanted: whole_codes(_rows_of(c, own_part(rows, share)), share, rows)
        )
        for one in found:
            _same(one, wanted)


def test_codes_of_other_rows_than_the_part_are_refused() -> None:
    codes = _ragged(torch.ones(40, 3))

    def refused(share: RowShare) -> bool:
        with pytest.raises(ShapeError, match=r"codes of 40 rows; wanted (32|8)"):
            whole_codes(codes, share, 40)
        return True

    assert all(_on_each(2, refused))


@settings(max_examples=40, deadline=None)
@given(
    seed=some.integers(0, 10_000),
    world=some.integers(1, 4),
    rows=some.integers(1, 90),
    distinct=some.integers(1, 5),
    wanted=some.integers(1, 300),
)
def test_the_best_of_all_are_those_of_one_batch_and_ties_go_to_the_first_rows(
    seed: int, world: int, rows: int, distinct: int, wanted: int
) -> None:
    chance = torch.Generator().manual_seed(seed)
    dense = torch.randint(0, distinct + 1, (rows, 7), generator=chance) * 0.37
    entries = [(-float(dense[r, f]), r, f) for r, f in dense.nonzero().tolist()]
    chosen = torch.zeros_like(dense)
    for _, row, feature in sorted(entries)[:wanted]:
        chosen[row, feature] = dense[row, feature]
    codes = _ragged(dense)
    for found, smallest in _on_each(
        world, lambda share: best_codes(_rows_of(codes, own_part(rows, share)), share, wanted, rows)
    ):
        _same(found, _ragged(chosen))
        assert float(smallest) == float(chosen[chosen > 0].min() if chosen.any() else 0.0)


@pytest.mark.parametrize("step", [train_step_topk, train_step_batch_topk])
@pytest.mark.parametrize("unit_norm", [False, True])
def test_a_step_of_several_processes_has_the_bits_of_one(
    step: Callable[..., StepResult], unit_norm: bool
) -> None:
    chance = torch.Generator().manual_seed(1)
    rows, dead = torch.randn(80, 12, generator=chance), torch.arange(96) % 3 == 0
    weights = Weights(
        encoder=torch.randn(96, 12, generator=chance),
        encoder_bias=torch.zeros(96),
        decoder=torch.randn(96, 12, generator=chance),
        decoder_bias=torch.zeros(12),
    )
    asked = StepSettings(
        k=3, learning_rate=1e-2, variance=12.0, unit_norm=unit_norm, aux_k=6, threshold_hint=0.5
    )

    def steps(share: RowShare | None) -> tuple[Weights, list[float | None]]:
        own, told = weights.clone(), list[float | None]()
        moments = AdamMoments.zeros_like(own)
        for number in (1, 2):
            found = step(rows, own, moments, asked, step=number, dead=dead, share=share)
            told += [found.loss, found.threshold]
        return own, told

    wanted, losses = steps(None)
    for found, told in _on_each(3, steps):
        assert told == losses
        for name, tensor in found.named().items():
            assert torch.equal(tensor, wanted.named()[name]), name
