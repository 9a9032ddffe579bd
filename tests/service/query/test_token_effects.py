"""Effects beside a dictionary are read once, again when they change, and not kept without bound."""

import os
from pathlib import Path

import pytest

from isogloss import dictionaries
from isogloss.dictionaries import (
    TOKEN_EFFECTS_FILE,
    TokenEffect,
    TokenEffects,
    write_token_effects,
)
from isogloss.errors import CorruptData
from isogloss.service.query.token_effects import KeptTokenEffects

UP = TokenEffect(token="a", token_id=1, change=0.5)


def effects(feature: int, agreement: float = 0.25) -> TokenEffects:
    return TokenEffects(
        feature=feature,
        promoted=(UP,),
        suppressed=(),
        direct_promoted=(),
        direct_suppressed=(),
        agreement=agreement,
    )


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the directories whose file was read."""
    found: list[str] = []
    read = dictionaries.read_token_effects

    def counting(directory: Path) -> dict[int, TokenEffects]:
        found.append(directory.name)
        return read(directory)

    monkeypatch.setattr(dictionaries, "read_token_effects", counting)
    return found


def planted(root: Path, name: str) -> Path:
    (directory := root / name).mkdir()
    write_token_effects([effects(3)], directory)
    return directory


def test_a_file_is_read_once_and_again_only_when_another_stands_there(
    tmp_path: Path, reads: list[str]
) -> None:
    kept, directory = KeptTokenEffects(), planted(tmp_path, "d")
    path = directory / TOKEN_EFFECTS_FILE
    for _ in range(3):
        assert kept.of(directory) == {3: effects(3)}
    assert reads == ["d"]
    write_token_effects([effects(3, 0.75)], directory)  # as long as the one before
    assert kept.of(directory) == {3: effects(3, 0.75)}
    before = path.stat()
    path.write_text(path.read_text().replace("0.75", "0.50"))  # the same inode and length
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert kept.of(directory) == {3: effects(3, 0.5)}
    assert reads == ["d"] * 3
    path.unlink()
    assert kept.of(directory) == {}
    write_token_effects([effects(4)], directory)
    assert list(kept.of(directory)) == [4]


def test_what_was_longest_unused_goes_and_the_newest_stays_however_large(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, found = KeptTokenEffects(), [planted(tmp_path, name) for name in "abc"]
    size = (found[0] / TOKEN_EFFECTS_FILE).stat().st_size
    monkeypatch.setattr("isogloss.service.query.token_effects._KEPT_BYTES", 2 * size)
    a, b, c = found
    for directory in (a, b, a, c, a, b):  # b was longest unused when c came
        kept.of(directory)
    assert reads == ["a", "b", "c", "b"]
    monkeypatch.setattr("isogloss.service.query.token_effects._KEPT_BYTES", 1)
    for directory in (c, c, a):
        kept.of(directory)
    assert reads == ["a", "b", "c", "b", "c", "a"]


def test_a_file_that_cannot_be_read_says_so_each_time_until_it_is_mended(
    tmp_path: Path, reads: list[str]
) -> None:
    kept, directory = KeptTokenEffects(), planted(tmp_path, "d")
    kept.of(directory)
    path = directory / TOKEN_EFFECTS_FILE
    path.write_text("{")
    for _ in range(2):
        with pytest.raises(CorruptData, match="measure the effects again"):
            kept.of(directory)
    path.unlink()
    path.mkdir()
    with pytest.raises(CorruptData, match="cannot be read"):
        kept.of(directory)
    path.rmdir()
    write_token_effects([effects(5)], directory)
    assert list(kept.of(directory)) == [5]
