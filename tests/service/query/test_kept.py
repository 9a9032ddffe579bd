"""What questions keep: the newest of each kind, and as many codes as there is memory for."""

from pathlib import Path

import numpy as np
import pytest

from isogloss.service.query.kept import KeptReads
from isogloss.universality import Atlas, ProbedDictionary
from isogloss.universality.testing import random_codes, write_probed


def made(value: object, seen: list[object]) -> object:
    seen.append(value)
    return value


def test_what_is_kept_is_made_once() -> None:
    kept, seen = KeptReads(), list[object]()
    for _ in range(3):
        assert kept.keep(("match", "a"), lambda: made(7, seen)) == 7
    assert kept.keep(("probe", "a"), lambda: made(8, seen)) == 8
    assert seen == [7, 8]


def test_of_a_kind_the_longest_unused_goes_first_and_other_kinds_stay() -> None:
    kept, seen = KeptReads(), list[object]()
    kept.keep(("probe", "p"), lambda: made("p", seen))
    for number in range(16):
        kept.keep(("match", str(number)), lambda number=number: made(number, seen))
    kept.keep(("match", "0"), lambda: made("never", seen))
    kept.keep(("match", "one more"), lambda: made("more", seen))
    assert "never" not in seen
    for name, again in (("0", "0 again"), ("1", "1 again")):
        kept.keep(("match", name), lambda again=again: made(again, seen))
    kept.keep(("probe", "p"), lambda: made("p again", seen))
    assert seen[-1] == "1 again"
    assert "0 again" not in seen
    assert "p again" not in seen


@pytest.fixture
def codes(tmp_path: Path) -> list[ProbedDictionary]:
    """Codes of about 10,000 entries each."""
    random = np.random.default_rng(0)
    return [
        write_probed(tmp_path / str(number), str(number), random_codes(random, 1000, 60, 12))
        for number in range(20)
    ]


def test_many_codes_are_kept_up_to_the_memory_that_they_take(
    codes: list[ProbedDictionary], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = sum(side.resident_bytes for side in codes[1:])
    monkeypatch.setattr("isogloss.service.query.kept._KEPT_BYTES", room)
    kept, seen = KeptReads(), list[object]()
    for side in codes:
        kept.keep(("codes", side.id), lambda side=side: made(side, seen))
    assert len(seen) == 20
    for side in codes[1:]:
        kept.keep(("codes", side.id), lambda side=side: made(side, seen))
    assert len(seen) == 20
    kept.keep(("codes", "0"), lambda: made(codes[0], seen))
    assert len(seen) == 21


def test_the_codes_asked_for_are_kept_however_many_they_are(
    codes: list[ProbedDictionary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isogloss.service.query.kept._KEPT_BYTES", 1)
    kept, seen = KeptReads(), list[object]()
    for _ in range(2):
        kept.keep(("codes", "0"), lambda: made(codes[0], seen))
    assert len(seen) == 1


def test_an_atlas_takes_the_place_of_those_of_its_probe_alone() -> None:
    kept, seen = KeptReads(), list[object]()
    atlases = {name: Atlas(8, probe_uid=name[0]) for name in ("a1", "a2", "b1")}
    for name, atlas in atlases.items():
        kept.keep(("atlas", name), lambda atlas=atlas: made(atlas, seen))
    kept.forget_older(atlases["a2"])
    for name, atlas in atlases.items():
        kept.keep(("atlas", name), lambda atlas=atlas: made(atlas, seen))
    assert seen == [*atlases.values(), atlases["a1"]]
