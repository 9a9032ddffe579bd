import json
from pathlib import Path

import pytest
from tests.dictionaries.passport.passports import passport_of, random_dictionary

from isogloss.dictionaries import Passport, read_passport, write_passport
from isogloss.dictionaries.passport.passport import PASSPORT_FILE
from isogloss.errors import CorruptData, UnsupportedVersion


def test_a_passport_is_read_as_it_was_written(tmp_path: Path) -> None:
    passport = passport_of(random_dictionary("jumprelu"), norms=(3.25,), begins=None)
    assert read_passport(tmp_path) is None
    write_passport(passport, tmp_path)
    again = read_passport(tmp_path)
    assert again is not None
    assert again.to_dict() == passport.to_dict()
    assert again.activation == passport.activation
    assert (tmp_path / PASSPORT_FILE).stat().st_size < 20_000


def test_what_is_no_passport_is_refused(tmp_path: Path) -> None:
    good = passport_of(random_dictionary()).to_dict()
    with pytest.raises(UnsupportedVersion, match="version 2"):
        Passport.from_dict({**good, "version": 2})
    for wrong in ({"model": 3}, {"sites": 1}, {"tensors": {"a": "AAAA"}}, {"norms": ["x"]}):
        with pytest.raises(CorruptData, match="not a passport"):
            Passport.from_dict({**good, **wrong})
    with pytest.raises(CorruptData, match="not a passport"):
        Passport.from_dict({name: value for name, value in good.items() if name != "sites"})
    (tmp_path / PASSPORT_FILE).write_text(json.dumps([1]))
    with pytest.raises(CorruptData, match="wanted a JSON object"):
        read_passport(tmp_path)
