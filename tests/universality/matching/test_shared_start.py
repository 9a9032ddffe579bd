"""A common start is found in whatever order the rows stand, and chance is not taken for one."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.universality.matching.test_cautions import pairs

from isogloss.errors import InvalidInput, ShapeError
from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.matching.shared_start import aligned_pairs, shared_init

Array = NDArray[Any]

FEATURES, WIDTH = 300, 48


def unit(seed: int, features: int = FEATURES, width: int = WIDTH) -> Array:
    rows = np.random.default_rng(seed).standard_normal((features, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def trained(start: Array, seed: int, cosine: float) -> Array:
    """Rows that kept this cosine with their start."""
    own = unit(seed, len(start), start.shape[1])
    own -= (own * start).sum(1, keepdims=True) * start
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    return cosine * start + np.sqrt(1 - cosine**2) * own


def test_equal_initial_hashes_are_certain_and_need_no_decoder() -> None:
    found = shared_init(hash_a="abc", hash_b="abc", decoder_a=unit(1), decoder_b=unit(2))
    assert found is not None
    assert (found.code, found.value) == ("SHARED_INIT", 1.0)
    assert shared_init(hash_a="abc", hash_b="abd") is None
    assert shared_init(hash_a="", hash_b="") is None


@pytest.mark.parametrize("cosine", [0.3, 0.75])
def test_rows_of_one_index_give_a_common_start_away_however_weak(cosine: float) -> None:
    start = unit(0)
    a, b = trained(start, 1, cosine), trained(start, 2, cosine)
    found = shared_init(decoder_a=a, decoder_b=b, same_space=True)
    assert found is not None
    assert found.value == pytest.approx(cosine**2, abs=0.02)
    assert "same weights" in found.message


@pytest.mark.parametrize("kept", [np.arange(FEATURES), np.arange(FEATURES // 2)])
def test_a_common_start_is_found_in_another_order_and_after_pruning(kept: Array) -> None:
    start = unit(0)
    order = np.random.default_rng(3).permutation(FEATURES)[: len(kept)]
    a, b = trained(start, 1, 0.75), trained(start, 2, 0.75)[order]
    for other in (b, np.roll(trained(start, 2, 0.75), 1, axis=0)):
        found = shared_init(decoder_a=a, decoder_b=other)
        assert found is not None
        assert "another order" in found.message
    assert shared_init(decoder_a=a, decoder_b=b, same_space=True) is None


def test_independent_decoders_raise_no_caution_even_with_a_common_direction() -> None:
    common = unit(9, features=1)
    for seed in range(6):
        a, b = unit(10 + seed), unit(20 + seed)
        assert shared_init(decoder_a=a, decoder_b=b) is None
        assert shared_init(decoder_a=a + common, decoder_b=b + unit(30 + seed, features=1)) is None
        assert shared_init(decoder_a=a + common, decoder_b=b + common, same_space=True) is None


def test_rows_of_zeros_are_no_sign() -> None:
    a, b = unit(1), unit(2)
    a[:100], b[:100] = 0, 0
    assert shared_init(decoder_a=a, decoder_b=b) is None


def test_decoders_of_different_width_and_few_rows_are_not_compared() -> None:
    assert shared_init(decoder_a=unit(1), decoder_b=unit(1, width=32)) is None
    assert shared_init(decoder_a=unit(1)) is None
    assert shared_init(decoder_b=unit(1)) is None
    assert shared_init(decoder_a=unit(1, 7), decoder_b=unit(1, 7)) is None
    assert shared_init(decoder_a=unit(1, 8), decoder_b=unit(1, 8)) is not None
    with pytest.raises(ShapeError, match=r"\(3,\) and"):
        shared_init(decoder_a=np.ones(3), decoder_b=unit(1))


def test_rows_that_are_not_finite_are_refused_and_named() -> None:
    broken = unit(2)
    broken[[5, 9], 3] = np.nan, np.inf
    with pytest.raises(InvalidInput, match=r"second decoder has 2 rows .* feature 5"):
        shared_init(decoder_a=unit(1), decoder_b=broken)


def aligned(equal: int, count: int) -> Pairs:
    """Pairs of which so many have one index in both dictionaries."""
    index = np.arange(count, dtype=np.int32)
    other = index.copy()
    other[equal:] = np.roll(index[equal:], 1)
    return pairs(count, feature_a=index, feature_b=other)


@pytest.mark.parametrize(
    ("equal", "count", "features", "raised"),
    [
        (60, 60, 4096, True),
        (5, 100, 4096, True),
        (4, 60, 4096, False),  # fewer than five
        (5, 101, 4096, False),  # fewer than a twentieth of the pairs
        (6, 60, 100, True),  # ten times the 0.6 of chance
        (6, 60, 99, False),
        (0, 0, 4096, False),
    ],
)
def test_equal_indices_are_told_from_chance(
    equal: int, count: int, features: int, raised: bool
) -> None:
    found = aligned_pairs(aligned(equal, count), features, features)
    assert (found is not None) is raised
    assert aligned_pairs(aligned(equal, count), features, features + 1) is None
    if found is not None:
        assert found.value == equal / count
        assert f"{equal} of {count} matched pairs" in found.message
        assert f"chance gives {count / features:.1f}" in found.message
