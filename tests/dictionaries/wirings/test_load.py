import pytest

from isogloss.dictionaries.wirings import load
from isogloss.dictionaries.wirings.load import make_wiring
from isogloss.dictionaries.wirings.sae import Sae
from isogloss.dictionaries.wirings.table import DEFAULT_WIRING, WIRINGS
from isogloss.errors import InvalidInput


def test_every_row_of_the_table_is_a_wiring():
    assert DEFAULT_WIRING in WIRINGS.names()
    for name in WIRINGS.built_in:
        assert make_wiring(name).connect([8]).reads == range(8)
    assert isinstance(make_wiring("sae"), Sae)


def test_an_unknown_wiring_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(InvalidInput, match=r"no wiring 'clt'.*sae"):
        make_wiring("clt")


def test_what_is_no_wiring_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        load, "WIRINGS", type(WIRINGS)(noun="", group="-", built_in={"x": "os:sep"})
    )
    with pytest.raises(InvalidInput, match="wiring 'x' is '/'; wanted a subclass"):
        make_wiring("x")
