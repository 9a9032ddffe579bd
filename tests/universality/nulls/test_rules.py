"""Labels say yes, no or undecided as the rules are written."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.universality.nulls.compress import compress
from isogloss.universality.nulls.labels import label_names
from isogloss.universality.nulls.rules import Beyond, beyond_token, replicates
from isogloss.universality.nulls.strata import Strata, joint_values

Array = NDArray[Any]

ROWS, TOKENS, LENGTH = 6000, 30, 50


@dataclass
class Text:
    token: Array
    position: Array
    source: Array


@pytest.fixture(scope="module")
def text() -> Text:
    random = np.random.default_rng(0)
    row = np.arange(ROWS)
    return Text(random.integers(0, TOKENS, ROWS), row % LENGTH, row // LENGTH // 3)


def judge(a: list[Array], b: list[Array], text: Text) -> Beyond:
    return beyond_token(
        compress(sp.csr_array(np.array(a))),
        compress(sp.csr_array(np.array(b))),
        token=Strata.of("token", text.token),
        position=Strata.of("position", text.position),
        joint=Strata.of("token_position", joint_values(text.token, text.position)),
        sources=Strata.of("document", text.source),
    )


def strengths(random: np.random.Generator, fires: Array) -> Array:
    return np.where(fires, random.lognormal(0, 1, ROWS), 0.0)


def shared_beyond(random: np.random.Generator, text: Text, token: int = 3) -> tuple[Array, Array]:
    """Fire on half of the rows of a token, mostly the same."""
    rows = (text.token == token) & (random.random(ROWS) < 0.5)
    other = rows & (random.random(ROWS) < 0.9)
    return strengths(random, rows), strengths(random, other)


def of_token(random: np.random.Generator, text: Text) -> tuple[Array, Array]:
    rows = text.token == random.integers(0, TOKENS)
    one, other = (strengths(random, rows & (random.random(ROWS) < 0.7)) for _ in range(2))
    return one, other


def test_pairs_beyond_their_token_are_told_from_pairs_of_their_token(text: Text) -> None:
    random = np.random.default_rng(1)
    pairs = [shared_beyond(random, text) for _ in range(20)]
    pairs += [of_token(random, text) for _ in range(60)]
    found = judge([a for a, _ in pairs], [b for _, b in pairs], text)
    names = label_names(found.label)
    assert names[:20] == ["yes"] * 20
    assert names[20:].count("yes") <= 1
    assert names[20:].count("no") >= 55
    assert (found.token.partial[:20] > 0.35).all()
    # 80 pairs can be tested, of which one in a hundred may pass by chance
    assert found.chance == pytest.approx(0.8)


def test_what_the_position_explains_is_not_beyond_the_token(text: Text) -> None:
    """Features of first words correlate within any token, and not at any position."""
    random = np.random.default_rng(2)
    pairs = []
    for _ in range(20):
        first = text.position == random.integers(0, 3)
        pairs.append([strengths(random, first) for _ in range(2)])
    found = judge([a for a, _ in pairs], [b for _, b in pairs], text)
    assert (found.token.p < 0.01).all()
    assert (found.token.partial > 0.5).all()
    names = label_names(found.label)
    assert names.count("yes") <= 1
    assert found.positional.sum() >= 19


def test_what_token_and_position_explain_together_is_not_beyond_the_token(text: Text) -> None:
    """A word at the beginning: neither the word nor the place explains it alone."""
    random = np.random.default_rng(3)
    pairs = []
    for _ in range(20):
        token = random.integers(0, TOKENS - 12)
        rows = (text.token >= token) & (text.token < token + 12) & (text.position < 4)
        pairs.append([strengths(random, rows) for _ in range(2)])
    found = judge([a for a, _ in pairs], [b for _, b in pairs], text)
    assert label_names(found.label).count("yes") <= 2
    assert found.positional.sum() >= 18


def test_few_movable_firings_leave_a_pair_undecided(text: Text) -> None:
    random = np.random.default_rng(4)
    a, b = of_token(random, text)
    for left, label in ((99, "undecided"), (110, "no")):
        kept = []
        for side in (a, b):
            fires = np.flatnonzero(side)
            thinned = np.zeros(ROWS)
            thinned[fires[:left]] = side[fires[:left]]
            kept.append(thinned)
        found = judge([kept[0]], [kept[1]], text)
        assert found.token.movable.tolist() == [left]
        assert label_names(found.label) == [label]


def test_fewer_than_thirty_movable_firings_are_no_yes_however_alike(text: Text) -> None:
    random = np.random.default_rng(5)
    a, _ = shared_beyond(random, text)
    for left, label in ((29, "undecided"), (40, "yes")):
        few = np.zeros(ROWS)
        few[np.flatnonzero(a)[:: len(np.flatnonzero(a)) // left][:left]] = 1.0
        few[few > 0] = random.lognormal(0, 0.3, left)
        found = judge([few], [few], text)
        assert label_names(found.label) == [label]
        assert found.chance == (0.0 if left < 30 else 0.01)


def test_fewer_than_twenty_sources_leave_all_undecided(text: Text) -> None:
    random = np.random.default_rng(6)
    pairs = [shared_beyond(random, text), of_token(random, text)]
    few = Text(text.token, text.position, text.source % 19)
    found = judge([a for a, _ in pairs], [b for _, b in pairs], few)
    assert label_names(found.label) == ["undecided", "undecided"]


def test_benjamini_and_hochberg_count_against_a_pair_among_many() -> None:
    """A p of .008 passes alone, and not among 99 pairs of the token."""
    random = np.random.default_rng(7)
    token = random.integers(0, TOKENS, ROWS)
    text = Text(token, np.arange(ROWS) % LENGTH, np.arange(ROWS) // LENGTH // 3)
    chosen = None
    while chosen is None:
        rows = np.flatnonzero(token == 0)
        both = random.choice(rows, 9, replace=False)
        rest = np.setdiff1d(rows, both)
        sides = []
        for _ in range(2):
            side = np.zeros(ROWS)
            side[both] = side[random.choice(rest, 26, replace=False)] = 1.0
            sides.append(side)
        alone = judge([sides[0]], [sides[1]], text)
        if 0.002 < alone.token.p[0] <= 0.01 and label_names(alone.label) == ["yes"]:
            chosen = sides
    others = [of_token(random, text) for _ in range(99)]
    found = judge([chosen[0], *(a for a, _ in others)], [chosen[1], *(b for _, b in others)], text)
    assert label_names(found.label)[0] != "yes"


@pytest.mark.parametrize(
    ("low", "again", "fires", "label"),
    [
        (0.11, True, 20, "yes"),
        (0.11, True, 19, "undecided"),
        (0.1, True, 100, "no"),
        (0.1, True, 99, "undecided"),
        (0.9, False, 100, "no"),
        (0.9, False, 99, "undecided"),
        (np.nan, True, 500, "undecided"),
        (np.nan, False, 500, "no"),
    ],
)
def test_a_pair_replicates_by_all_three_conditions(
    low: float, again: bool, fires: int, label: str
) -> None:
    found = replicates(np.array([low]), np.array([again]), np.array([fires]), bar=0.1)
    assert label_names(found) == [label]
