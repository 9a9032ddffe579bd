"""What stays of gradients between two passes: those with several entries, within the bound."""

import numpy as np
import pytest
import torch

from isogloss.kernels.cpu.loops import kept as module
from isogloss.kernels.cpu.loops.kept import is_kept, nothing_kept, room_to_keep, row_of
from isogloss.kernels.values.workspace import Workspace


def test_features_of_four_entries_and_more_have_a_row_each() -> None:
    kept = room_to_keep(torch.tensor([0, 4, 3, 9, 5]), 7, Workspace())
    assert kept[0].tolist() == [-1, 0, -1, 1, 2]
    assert kept[1].shape == (3, 7)
    assert [bool(is_kept(f, kept)) for f in range(5)] == [False, True, False, True, True]


def test_rows_of_more_than_the_bound_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BYTES", 4 * 7 * 2)  # two rows of seven numbers
    kept = room_to_keep(torch.full((5,), 4), 7, Workspace())
    assert kept[0].tolist() == [0, 1, -1, -1, -1]
    assert kept[1].shape == (2, 7)


def test_a_feature_that_is_not_kept_has_the_room_that_is_given() -> None:
    room = np.zeros(7, np.float32)
    assert not is_kept(3, nothing_kept())
    row_of(3, nothing_kept(), room)[:] = 1
    assert room.tolist() == [1.0] * 7
    kept = room_to_keep(torch.tensor([9, 0]), 7, Workspace())
    kept[1][:] = 0
    row_of(0, kept, room)[:] = 2
    row_of(1, kept, room)[:] = 3
    assert kept[1].tolist() == [[2.0] * 7]
    assert room.tolist() == [3.0] * 7
