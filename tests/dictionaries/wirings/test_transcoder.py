import pytest

from isogloss.dictionaries.wirings.transcoder import Transcoder
from isogloss.errors import InvalidInput


def test_the_first_site_goes_in_and_the_second_comes_out():
    found = Transcoder(skip=True).connect([6, 4])
    assert (found.reads, found.writes) == (range(6), range(6, 10))
    assert not found.reads_what_it_writes
    assert found.skip
    assert not Transcoder().connect([6, 4]).skip


@pytest.mark.parametrize("widths", [[], [8], [8, 8, 8]])
def test_another_number_of_sites_is_refused(widths: list[int]):
    with pytest.raises(InvalidInput, match=f"given {len(widths)} sites.*exactly 2"):
        Transcoder().connect(widths)
