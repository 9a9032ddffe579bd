"""A probe is a value that checks itself and survives its file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.errors import (
    CorruptData,
    InvalidInput,
    NotFound,
    UnsupportedVersion,
)
from isogloss.store import read_arrays, write_arrays
from isogloss.universality import Probe

MakeProbe = Callable[..., Probe]

ARRAYS = [
    "documents",
    "segment_document",
    "segment_source",
    "segment_span",
    "stratum_token",
    "stratum_position",
    "half",
    "keys",
]


def test_a_later_version_of_the_file_is_refused(make_probe: MakeProbe, tmp_path: Path) -> None:
    make_probe(100).save(tmp_path / "probe")
    arrays, attributes = read_arrays(tmp_path / "probe")
    write_arrays(tmp_path / "probe", arrays, {**attributes, "version": 2})
    with pytest.raises(UnsupportedVersion, match="version 2"):
        Probe.load(tmp_path / "probe")


@pytest.mark.parametrize("name", ARRAYS)
def test_changed_arrays_are_noticed(make_probe: MakeProbe, tmp_path: Path, name: str) -> None:
    make_probe(100).save(tmp_path / "probe")
    arrays, attributes = read_arrays(tmp_path / "probe")
    changed = arrays[name].copy()
    changed[0] = 1 - changed[0] if name == "half" else changed[0] + 1
    write_arrays(tmp_path / "probe", {**arrays, name: changed}, attributes)
    with pytest.raises(CorruptData, match="was written"):
        Probe.load(tmp_path / "probe")


def test_a_missing_array_is_named(make_probe: MakeProbe, tmp_path: Path) -> None:
    make_probe(100).save(tmp_path / "probe")
    arrays, attributes = read_arrays(tmp_path / "probe")
    del arrays["half"]
    write_arrays(tmp_path / "probe", arrays, attributes)
    with pytest.raises(CorruptData, match="'half' is missing"):
        Probe.load(tmp_path / "probe")


def test_a_probe_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Probe.load(tmp_path / "nothing")


def test_arrays_of_a_probe_must_agree(make_probe: MakeProbe) -> None:
    probe = make_probe(100)
    with pytest.raises(InvalidInput, match="half has 99 rows"):
        replace(probe, half=probe.half[:-1])


@pytest.mark.parametrize("odd", [7, -1, 2])
def test_a_half_that_is_neither_is_refused_and_not_dropped(make_probe: MakeProbe, odd: int) -> None:
    probe = make_probe(100)
    half = probe.half.copy()
    half[[3, 5]] = odd
    with pytest.raises(InvalidInput, match=f"half holds {odd} in 2 of 100 rows"):
        replace(probe, half=half)


def test_exact_and_folded_words_survive_the_file(make_probe: MakeProbe, tmp_path: Path) -> None:
    probe = replace(make_probe(100), stratum_folded=make_probe(100).stratum_token // 2)
    probe.save(tmp_path / "probe")
    loaded = Probe.load(tmp_path / "probe")
    assert loaded.surface == "exact"
    assert loaded.token_values("exact").tolist() == list(range(100))
    assert loaded.token_values("folded").tolist() == [n // 2 for n in range(100)]
    assert loaded.digest == make_probe(100).digest
    with pytest.raises(InvalidInput, match="stratum_folded has 9 rows"):
        replace(probe, stratum_folded=probe.keys[:9].astype("i8"))


def test_a_probe_of_an_earlier_version_is_read_and_known_to_fold_case(
    make_probe: MakeProbe, tmp_path: Path
) -> None:
    make_probe(100).save(tmp_path / "probe")
    arrays, attributes = read_arrays(tmp_path / "probe")
    del attributes["surface"]
    write_arrays(tmp_path / "probe", arrays, attributes)
    loaded = Probe.load(tmp_path / "probe")
    assert loaded.surface == "folded"
    for surface in ("exact", "folded"):
        assert loaded.token_values(surface) is loaded.stratum_token
    write_arrays(tmp_path / "tokens", arrays, {**attributes, "grid": "tokens"})
    with pytest.raises(CorruptData, match="was written"):  # the grid is part of the digest
        Probe.load(tmp_path / "tokens")
