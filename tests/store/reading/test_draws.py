"""Units are drawn as often as their weights say, the same for the same seed and epoch."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import InvalidInput, ShapeError
from isogloss.store import Sampling, StratumShares, TokenColumns
from isogloss.store.reading.draws import Draws, _uniform, weighed
from isogloss.store.reading.units import Units

ROWS = 600


def columns(start: int = 0, stop: int = ROWS) -> TokenColumns:
    """Rows of 10 documents of 60 tokens; the token is the row's number modulo 7."""
    row = np.arange(start, stop)
    return TokenColumns(
        token_id=(row % 7).astype(np.uint32),
        document=(row // 60).astype(np.uint64),
        position=(row % 60).astype(np.uint32),
        span=None,
    )


def groups() -> Mapping[int, str]:
    return {document: "even" if document % 2 == 0 else "odd" for document in range(10)}


def drawn(sampling: Sampling) -> Draws | np.ndarray:
    units = Units.find([columns()], sampling, None)
    return weighed(units, sampling, columns, groups, ROWS)


def counts(draws: Draws | np.ndarray, epoch: int = 0, seed: int = 0) -> np.ndarray:
    """How often each row is drawn in an epoch."""
    if not isinstance(draws, Draws):
        return np.bincount(draws, minlength=ROWS)
    return np.bincount(draws.units(np.arange(draws.count), seed, epoch), minlength=ROWS)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), epoch=st.integers(-3, 3))
def test_no_unit_is_drawn_two_times_more_or_less_often_than_its_weight_says(
    seed: int, epoch: int
) -> None:
    weights = np.random.default_rng(seed).choice([0.0, 0.1, 1.0, 3.7], ROWS)
    weights[0] = 1.0
    draws = drawn(Sampling(weights=weights))
    assert isinstance(draws, Draws)
    assert draws.count == np.count_nonzero(weights)
    found = counts(draws, epoch, seed)
    assert found.sum() == draws.count
    wanted = weights * draws.count / weights.sum()
    assert (np.abs(found - wanted) < 2).all()
    assert (found[weights == 0] == 0).all()
    np.testing.assert_array_equal(found, counts(draws, epoch, seed))


def test_over_epochs_draws_come_to_what_the_weights_say() -> None:
    weights = np.where(np.arange(ROWS) % 2 == 0, 0.3, 1.0)
    draws = drawn(Sampling(weights=weights))
    epochs = 400
    found = np.sum([counts(draws, epoch) for epoch in range(epochs)], axis=0) / epochs
    wanted = weights * ROWS / weights.sum()
    # a unit's draws of an epoch differ from what is wanted by less than 2, so each mean has a
    # standard deviation below 2 / sqrt(epochs) = 0.1, and all 600 lie within five of them
    assert (np.abs(found - wanted) < 0.5).all()
    assert abs(found[::2].mean() - wanted[0]) < 0.01


def test_equal_weights_draw_each_unit_once_whatever_the_number() -> None:
    for weight in (0.1, 1 / 3, 1e-30, 7.0):
        assert (counts(drawn(Sampling(weights=np.full(ROWS, weight)))) == 1).all()
    some = np.where(np.arange(ROWS) < 60, 0.7, 0.0)
    assert counts(drawn(Sampling(weights=some)))[:60].tolist() == [1] * 60


def test_seeds_and_epochs_draw_differently() -> None:
    draws = drawn(Sampling(weights=np.linspace(0.1, 3, ROWS)))
    assert counts(draws, 0, 0).tolist() != counts(draws, 1, 0).tolist()
    assert counts(draws, 0, 0).tolist() != counts(draws, 0, 1).tolist()


@pytest.mark.parametrize(
    ("strata", "label", "shares"),
    [
        (
            StratumShares(column="token_id", shares={3: 1.0, 5: 2.0}, other=1.0),
            "token",
            [0.25, 0.5, 0.25],
        ),
        (StratumShares(column="position", shares={8: 3.0, 0: 1.0}), "band", [0.75, 0.25, 0]),
        (StratumShares(column="position", shares={8: 1.0}, other=0.0), "late", [1.0, 0.0]),
        (StratumShares(column="group", shares={"odd": 0.9}, other=0.1), "group", [0.9, 0.1]),
    ],
)
def test_each_stratum_has_its_share_of_the_draws(
    strata: StratumShares, label: str, shares: list[float]
) -> None:
    row = np.arange(ROWS)
    of = {
        "token": np.select([row % 7 == 3, row % 7 == 5], [0, 1], 2),
        "band": np.where(row % 60 < 8, 1, 0),
        "late": np.where(row % 60 < 8, 1, 0),
        "group": np.where(row // 60 % 2 == 1, 0, 1),
    }[label]
    draws = drawn(Sampling(strata=strata))
    found = np.bincount(
        of, np.sum([counts(draws, epoch) for epoch in range(20)], axis=0), len(shares)
    )
    # each boundary between the pieces of two strata shifts a count by less than 1, and there are at
    # most 2 * 600 / 7 of them in an epoch of 600 draws; over 20 epochs they cancel but for chance
    np.testing.assert_allclose(found / found.sum(), shares, atol=0.01)


def test_weights_decide_within_a_stratum() -> None:
    weights = np.where(np.arange(ROWS) % 60 < 4, 2.0, 1.0)
    strata = StratumShares(column="position", shares={0: 1.0, 8: 1.0})
    draws = drawn(Sampling(strata=strata, weights=weights))
    found = np.sum([counts(draws, epoch) for epoch in range(40)], axis=0)
    found = found.reshape(10, 60).sum(axis=0)
    assert found[:8].sum() == pytest.approx(found[8:].sum(), rel=0.02)
    assert found[:4].sum() == pytest.approx(2 * found[4:8].sum(), rel=0.05)


def test_shares_and_weights_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"token_id 99 should have a share"):
        drawn(Sampling(strata=StratumShares(column="token_id", shares={3: 1.0, 99: 1.0})))
    with pytest.raises(ShapeError, match=r"weights are \[3\], wanted \[600\]"):
        drawn(Sampling(weights=np.ones(3)))
    for bad in (np.nan, -1.0):
        with pytest.raises(InvalidInput, match="finite and not negative"):
            drawn(Sampling(weights=np.full(ROWS, bad)))
    with pytest.raises(InvalidInput, match="none of the 600 units"):
        drawn(Sampling(weights=np.zeros(ROWS)))


def splitmix64(seed: int, count: int) -> list[int]:
    """SplitMix64 as its authors wrote it (Steele, Lea, Flood 2014), in whole numbers."""
    mask, found = (1 << 64) - 1, list[int]()
    for _ in range(count):
        seed = seed + 0x9E3779B97F4A7C15 & mask
        word = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & mask
        word = (word ^ word >> 27) * 0x94D049BB133111EB & mask
        found.append(word ^ word >> 31)
    return found


def test_the_numbers_that_decide_draws_are_those_of_splitmix64() -> None:
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973], "as published"
    digest = hashlib.sha256(b"isogloss draw 1|a name").digest()
    wanted = splitmix64(int.from_bytes(digest[:8], "little"), 1000)
    found = _uniform(np.arange(1000), "a name")
    assert found.tolist() == [(word >> 11) / 2**53 for word in wanted]
