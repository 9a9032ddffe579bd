"""Entries of codes in the order of their features."""

import torch

from isogloss.kernels.cpu.loops.entries import row_offsets, segments
from isogloss.kernels.values.codes import Codes

CODES = Codes(
    values=torch.tensor([[1.0, 2.0], [0.0, 3.0], [4.0, 5.0]]),
    indices=torch.tensor([[2, 0], [1, 2], [2, 3]], dtype=torch.int32),
    features=5,
)


def test_rows_of_equal_length_have_their_entries_one_after_the_other() -> None:
    offsets = row_offsets(CODES)
    assert (offsets.tolist(), offsets.dtype) == ([0, 2, 4, 6], torch.int64)


def test_entries_are_sorted_by_feature_then_row_without_those_of_value_0() -> None:
    found = segments(CODES)
    assert found.starts.tolist() == [0, 1, 1, 4, 5, 5]
    assert found.entries.tolist() == [1, 0, 3, 4, 5]
    assert found.rows.tolist() == [0, 0, 1, 2, 2]
    assert (found.entries.dtype, found.rows.dtype) == (torch.int64, torch.int32)
