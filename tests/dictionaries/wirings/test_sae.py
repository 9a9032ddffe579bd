import pytest

from isogloss.dictionaries.wirings.sae import Sae
from isogloss.errors import InvalidInput


def test_one_site_goes_in_and_comes_out():
    found = Sae().connect([384])
    assert found.reads == found.writes == range(384)
    assert found.reads_what_it_writes


@pytest.mark.parametrize("widths", [[], [384, 384]])
def test_another_number_of_sites_is_refused(widths: list[int]):
    with pytest.raises(InvalidInput, match=f"given {len(widths)} sites.*exactly 1"):
        Sae().connect(widths)
