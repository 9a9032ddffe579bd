"""Lists of tokens beside a dictionary: written, read, refused."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.dictionaries.live.planted import random_dictionary

from isogloss.dictionaries import (
    TokenEffect,
    TokenEffects,
    check_token_effects,
    load_dictionary,
    read_token_effects,
    save_dictionary,
    write_token_effects,
)
from isogloss.dictionaries.effects.token_lists import TOKEN_EFFECTS_FILE
from isogloss.errors import CorruptData, InvalidInput

UP = (TokenEffect(token="</script>", token_id=3, change=0.5),)
DOWN = (TokenEffect(token="Ġö", token_id=9, change=-2.0),)
ONE = TokenEffects(
    feature=3, promoted=UP, suppressed=DOWN, direct_promoted=UP, direct_suppressed=(), agreement=0.5
)


def test_effects_come_back_from_beside_the_dictionary(tmp_path: Path):
    directory = tmp_path / "saved"
    save_dictionary(random_dictionary(), directory)
    assert read_token_effects(directory) == {}
    both = [ONE, replace(ONE, feature=9)]
    write_token_effects(both, directory)
    assert read_token_effects(directory) == {3: ONE, 9: both[1]}
    load_dictionary(directory)  # which takes no offence at the file


def whole(effects: str) -> str:
    return f'{{"format": "isogloss-token-effects", "version": 1, "effects": {effects}}}'


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"isogloss-token-effects"',
        '{"format": "isogloss-token-effects", "version": 9}',
        '{"format": "isogloss-token-effects", "version": 1}',
        whole('[{"feature": 1}]'),
        whole("[1]"),
        whole("7"),
        whole('[{"feature": 1, "agreement": NaN, "promoted": [], "suppressed": [], '
              '"direct_promoted": [], "direct_suppressed": []}]'),
        whole('[{"feature": 1, "agreement": 1e999, "promoted": [], "suppressed": [], '
              '"direct_promoted": [], "direct_suppressed": []}]'),
        "[" * 100_000,
    ],
    ids=range(11),
)  # fmt: skip
def test_a_file_that_holds_no_effects_is_refused(text: str, tmp_path: Path):
    (tmp_path / TOKEN_EFFECTS_FILE).write_text(text)
    with pytest.raises(CorruptData, match="measure"):
        read_token_effects(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path):
    (tmp_path / TOKEN_EFFECTS_FILE).mkdir()
    with pytest.raises(CorruptData, match="cannot be read"):
        read_token_effects(tmp_path)


def test_as_much_as_is_kept_is_taken_and_no_more():
    check_token_effects([replace(ONE, promoted=UP * 64)], 4)
    long = replace(UP[0], token="x" * 256)
    check_token_effects([replace(ONE, direct_promoted=(long,))], 4)
    for wrong, said in (
        ([replace(ONE, promoted=UP * 65)], "a list of 65 tokens"),
        ([replace(ONE, suppressed=(replace(long, token="x" * 257),))], "longest of 257"),
        ([replace(ONE, feature=4)], "feature 4: the dictionary has 0 to 3"),
        ([replace(ONE, feature=-1)], "feature -1"),
        ([ONE, ONE], "feature 3 stands twice"),
        ([replace(ONE, agreement=math.nan)], "not finite"),
        ([replace(ONE, direct_promoted=(replace(long, change=math.inf),))], "not finite"),
    ):
        with pytest.raises(InvalidInput, match=said):
            check_token_effects(wrong, 4)


def test_a_server_keeps_them_without_torch():
    asked = "import sys, isogloss.dictionaries as d; d.read_token_effects; "
    asked += "print('torch' in sys.modules)"
    command = [sys.executable, "-c", asked]
    assert subprocess.run(command, capture_output=True, check=True).stdout.strip() == b"False"
