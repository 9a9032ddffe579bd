import pytest

from isogloss.dictionaries.wirings import load
from isogloss.dictionaries.wirings.load import check_sites, make_wiring, wiring_settings
from isogloss.dictionaries.wirings.sae import Sae
from isogloss.dictionaries.wirings.table import DEFAULT_WIRING, WIRINGS, wiring_names
from isogloss.dictionaries.wirings.transcoder import Transcoder
from isogloss.errors import InvalidInput


def test_every_row_of_the_table_is_a_wiring():
    assert DEFAULT_WIRING in wiring_names()
    sites = {"sae": 1, "transcoder": 2, "crosscoder": 3}
    assert set(sites) == set(WIRINGS.built_in)
    for name, count in sites.items():
        assert make_wiring(name).connect([8] * count).reads.start == 0
    assert isinstance(make_wiring("sae"), Sae)


def test_settings_are_those_of_the_wiring():
    assert make_wiring("transcoder", {"skip": True}) == Transcoder(skip=True)
    assert wiring_settings("crosscoder") == ["dedicated"]
    with pytest.raises(InvalidInput, match=r"unknown settings \['skip'\]; wiring 'sae'"):
        make_wiring("sae", {"skip": True})
    with pytest.raises(InvalidInput, match=r"dedicated is 0\.5"):
        make_wiring("crosscoder", {"dedicated": 0.5})


def test_an_unknown_wiring_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(InvalidInput, match=r"no wiring 'clt'.*sae"):
        make_wiring("clt")


def test_what_is_no_wiring_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        load, "WIRINGS", type(WIRINGS)(noun="", group="-", built_in={"x": "os:sep"})
    )
    with pytest.raises(InvalidInput, match="wiring 'x' is '/'; wanted a subclass"):
        make_wiring("x")


def test_sites_that_a_wiring_does_not_take_are_refused():
    check_sites("sae", [8])
    check_sites("transcoder", [8, 4], {"features": 64, "skip": True})
    with pytest.raises(InvalidInput, match=r"dedicated is 0\.4 for each of 3 sites"):
        check_sites("crosscoder", [8, 8, 8], {"dedicated": 0.4})
    with pytest.raises(InvalidInput, match="2 sites; it reads exactly 1"):
        check_sites("sae", [8, 8])
    with pytest.raises(InvalidInput, match="no wiring 'clt'"):
        check_sites("clt", [8])
