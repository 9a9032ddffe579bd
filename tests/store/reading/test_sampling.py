"""What is sampled is checked when it is said."""

import pytest

from isogloss.errors import InvalidInput
from isogloss.store import Sampling, StratumShares


def test_windows_do_not_overlap_unless_asked_and_pairs_are_all_there_are() -> None:
    windows = Sampling.windows(16)
    assert (windows.length, windows.distance, windows.stride, windows.span) == (16, 1, 16, 16)
    assert Sampling.windows(16, stride=1).stride == 1
    pairs = Sampling.pairs(5)
    assert (pairs.length, pairs.distance, pairs.stride, pairs.span) == (2, 5, 1, 6)
    assert not pairs.is_weighted


@pytest.mark.parametrize(("length", "distance", "stride"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_sizes_below_one_are_refused(length: int, distance: int, stride: int) -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        Sampling(length=length, distance=distance, stride=stride)


def test_shares_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidInput, match="wanted at least one int"):
        StratumShares(column="token_id", shares={})
    with pytest.raises(InvalidInput, match="wanted at least one int"):
        StratumShares(column="position", shares={"a": 1.0})
    with pytest.raises(InvalidInput, match="wanted at least one str"):
        StratumShares(column="group", shares={1: 1.0})
    for share in (-1.0, float("nan"), 0.0):
        with pytest.raises(InvalidInput, match="not all 0"):
            StratumShares(column="token_id", shares={1: share})
