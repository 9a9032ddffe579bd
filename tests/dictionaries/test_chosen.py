from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from isogloss.dictionaries import TrainConfig, WiredColumns, Wiring
from isogloss.dictionaries.chosen import kind_of, wiring_of
from isogloss.dictionaries.kinds.topk import TopK
from isogloss.dictionaries.registry import Registry
from isogloss.dictionaries.wirings import load
from isogloss.dictionaries.wirings.transcoder import Transcoder
from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class WithK(Wiring):
    """A wiring with a setting that a kind has too."""

    k: int = 1
    """A setting."""

    def connect(self, widths: Sequence[int]) -> WiredColumns:
        return WiredColumns(reads=range(widths[0]), writes=range(widths[0]))


def test_settings_go_to_the_one_that_has_them():
    config = TrainConfig(wiring="transcoder", settings={"features": 8, "k": 2, "skip": True})
    assert kind_of(config) == TopK(features=8, k=2)
    assert wiring_of(config) == Transcoder(skip=True)


def test_a_setting_that_neither_has_is_refused_and_those_of_both_are_listed():
    config = TrainConfig(wiring="transcoder", settings={"features": 8, "dedicated": 0.1})
    with pytest.raises(InvalidInput, match=r"\['dedicated'\]; kind 'topk' has.*has \['skip'\]"):
        kind_of(config)


def test_a_setting_that_is_misspelt_is_answered_with_the_nearest_of_kind_and_wiring():
    wrong = {"features": 8, "aux": 1, "skp": True}
    with pytest.raises(InvalidInput, match=r"\['aux', 'skp'\] \(nearest: aux_k, skip\)"):
        kind_of(TrainConfig(wiring="transcoder", settings=wrong))


def test_a_name_that_both_have_is_refused(monkeypatch: pytest.MonkeyPatch):
    rows = {"odd": "tests.dictionaries.test_chosen:WithK"}
    monkeypatch.setattr(load, "WIRINGS", Registry(noun="wiring", group="-", built_in=rows))
    with pytest.raises(InvalidInput, match=r"both have settings \['k'\].*rename"):
        wiring_of(TrainConfig(wiring="odd", settings={"features": 8}))
