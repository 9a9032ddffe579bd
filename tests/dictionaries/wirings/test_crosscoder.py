import pytest

from isogloss.dictionaries.wirings.crosscoder import Crosscoder, feature_owners
from isogloss.errors import InvalidInput


def test_all_sites_go_in_and_come_out():
    found = Crosscoder().connect([6, 4, 2])
    assert found.reads == found.writes == range(12)
    assert found.dedicated == ()
    assert Crosscoder(dedicated=0.1).connect([6, 4]).dedicated == (0.1, 0.1)


@pytest.mark.parametrize("widths", [[], [8]])
def test_fewer_than_two_sites_are_refused(widths: list[int]):
    with pytest.raises(InvalidInput, match=f"given {len(widths)} sites.*at least 2"):
        Crosscoder().connect(widths)


def test_dedicated_shares_must_leave_features_to_share():
    with pytest.raises(InvalidInput, match="leaves no feature to share"):
        Crosscoder(dedicated=0.4).connect([4, 4, 4])


def test_features_of_a_site_are_spread_evenly_and_as_many_as_asked_for():
    owners = feature_owners(100, (0.25, 0.1))
    assert [owners.count(one) for one in (0, 1, -1)] == [25, 10, 65]
    for start in range(0, 100, 20):
        assert 4 <= owners[start : start + 20].count(0) <= 6
    assert feature_owners(5, ()) == [-1] * 5
