"""Planted rows: their frequencies, what fires together, and that they are a pure function."""

from dataclasses import replace

import numpy as np
import pytest

from isogloss.dictionaries.experiments.superposition import BLOCK_ROWS, PLANTED, Superposition
from isogloss.errors import InvalidInput

SMALL = Superposition(features=32, width=12, fires=4.0)
WORLDS = {
    "uniform": SMALL,
    "zipf": replace(SMALL, zipf=1.0),
    "correlated": replace(SMALL, correlation=0.6),
    "hierarchical": replace(SMALL, hierarchical=True),
    "hierarchical zipf": replace(SMALL, hierarchical=True, zipf=1.0),
}
BLOCKS = 8


def fires_of(world: Superposition) -> np.ndarray:
    return np.concatenate([world.block(number).fires for number in range(BLOCKS)])


def test_the_worlds_of_the_benchmark_are_of_each_sort() -> None:
    assert [*PLANTED] == ["uniform", "zipf", "correlated", "hierarchical"]


@pytest.mark.parametrize("name", [*WORLDS])
def test_features_fire_as_often_as_the_probabilities_say(name: str) -> None:
    world = WORLDS[name]
    chance, fires = world.probabilities(), fires_of(world)
    assert chance.sum() == pytest.approx(4.0)
    error = np.sqrt(chance * (1 - chance) / len(fires))
    if world.correlation or world.hierarchical:
        error = error * 2  # rows are independent, but the greatest of 32 is not of 32 tries
    assert np.all(np.abs(fires.mean(0) - chance) < 4.5 * error), name


def test_zipf_frequencies_fall_as_a_power_of_the_rank() -> None:
    chance = WORLDS["zipf"].probabilities()
    free = chance < 0.5
    assert chance.max() <= 0.5
    ratios = chance[free] * (np.flatnonzero(free) + 1)
    assert np.allclose(ratios, ratios[0])


def test_correlated_features_fire_together_in_their_group_only() -> None:
    fires = fires_of(WORLDS["correlated"]).astype(np.float64)
    found = np.asarray(np.corrcoef(fires.T))
    group = np.arange(32) % 4
    same = group[:, None] == group[None, :]
    np.fill_diagonal(found, np.nan)
    assert np.nanmin(found[same]) > 0.2
    assert np.abs(found[~same]).max() < 4.5 / len(fires) ** 0.5


@pytest.mark.parametrize("name", ["hierarchical", "hierarchical zipf"])
def test_children_fire_only_where_their_parent_does(name: str) -> None:
    world = WORLDS[name]
    fires, chance, parents = fires_of(world), world.probabilities(), np.arange(32) % 4
    children = np.arange(32) != parents
    assert not (fires & ~fires[:, parents]).any()
    assert (chance[children] <= 0.5 * chance[parents[children]] + 1e-12).all()
    assert fires[:, children].any(0).all()


def test_rows_are_sums_of_the_directions_that_fire_and_a_pure_function_of_the_seed() -> None:
    block, again = SMALL.block(3), SMALL.block(3)
    assert block.rows.shape == (BLOCK_ROWS, 12)
    assert np.array_equal(block.rows, again.rows)
    assert not np.array_equal(block.rows, SMALL.block(4).rows)
    assert not np.array_equal(block.rows, replace(SMALL, seed=1).block(3).rows)
    alone = np.flatnonzero(block.fires.sum(1) == 1)
    directions = SMALL.directions()[block.fires[alone].argmax(1)]
    along = (block.rows[alone] * directions).sum(1)
    assert np.allclose(block.rows[alone], along[:, None] * directions, atol=1e-5)
    assert along.min() > 0.5 - 1e-5
    assert along.max() < 1.5 + 1e-5


def test_noise_has_the_asked_for_deviation() -> None:
    quiet, loud = SMALL.block(0), replace(SMALL, noise=0.3).block(0)
    assert np.array_equal(quiet.fires, loud.fires)
    assert np.std(loud.rows - quiet.rows) == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"fires": 20.0}, "at most half"),
        ({"correlation": 0.5, "hierarchical": True}, "choose one"),
        ({"correlation": 0.5, "group": 5}, "multiple of group"),
        ({"features": 0}, "features is 0"),
        ({"noise": float("nan")}, "finite"),
    ],
)
def test_a_world_that_cannot_be_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        replace(SMALL, **wrong)
