"""How often each unit is drawn in an epoch where units differ in weight.

The line ``[0, draws)`` is cut into one piece a unit, as long as the number of draws that the unit
should have. Draw i falls on a random point of ``[i, i + 1)`` and takes the unit whose piece it is
in. So each unit has its expected number of draws, never off by two or more, draws stay in the order
of the rows (which is that of the disk) until they are shuffled, and each is a function of seed,
epoch and its number alone.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError
from isogloss.store.reading.sampling import Sampling, StratumShares
from isogloss.store.reading.units import Units
from isogloss.store.schema.batch import TokenColumns


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draws:
    """The units of an epoch where they are drawn by weight."""

    ends: NDArray[np.float64]
    """End of the piece of each unit, ``[units]``, ascending to the number of draws: 8 bytes a
    unit."""

    @property
    def count(self) -> int:
        """Draws of an epoch."""
        return round(float(self.ends[-1])) if len(self.ends) else 0

    def units(self, draws: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the unit of each of these draws."""
        points = draws + _uniform(draws, f"{seed}|{epoch}|draws")
        # the last point may round up to the end of the line
        found = np.searchsorted(self.ends, points, "right")
        last = np.searchsorted(self.ends, self.ends[-1], "left")
        return np.minimum(found, last).astype(np.int64)


def weighed(
    units: Units,
    sampling: Sampling,
    columns: Callable[[int, int], TokenColumns],
    groups: Callable[[], Mapping[int, str]],
    rows: int,
) -> Draws | NDArray[np.int64]:
    """Say how often each unit is drawn.

    Args:
        units: all units of the recording.
        sampling: shares and weights.
        columns: returns the token columns of a range of rows.
        groups: returns the group of each document.
        rows: of the recording.

    Returns:
        The draws; or, where all units of a positive weight have the same, these units, ascending.

    Raises:
        ShapeError: weights are not ``[rows]``.
        InvalidInput: a weight is negative or not finite, or a share is of a stratum without units.
    """
    weights = _unit_weights(units, sampling.weights, rows)
    if sampling.strata is not None:
        weights *= _stratum_factors(units, sampling.strata, weights, columns, groups)
    drawn = np.flatnonzero(weights > 0).astype(np.int64)
    if not len(drawn):
        raise InvalidInput(
            f"none of the {units.count} units has a positive weight: check weights, shares and keep"
        )
    if weights[drawn].min() == weights[drawn].max():
        return drawn
    ends = np.cumsum(weights)
    ends *= len(drawn) / ends[-1]
    return Draws(ends=ends)


def _unit_weights(
    units: Units, weights: NDArray[np.floating] | None, rows: int
) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(units.count)
    if weights.shape != (rows,):
        raise ShapeError(f"weights are {list(weights.shape)}, wanted [{rows}]")
    if not np.isfinite(weights).all() or (rows and weights.min() < 0):
        raise InvalidInput("weights must be finite and not negative; found others")
    found = [np.asarray(weights[first], np.float64) for first in units.first_rows()]
    return np.concatenate(found) if found else np.empty(0)


def _stratum_factors(
    units: Units,
    strata: StratumShares,
    weights: NDArray[np.float64],
    columns: Callable[[int, int], TokenColumns],
    groups: Callable[[], Mapping[int, str]],
) -> NDArray[np.float64]:
    """Return by what the weight of each unit is multiplied, so that each stratum has its share."""
    label = _labeller(strata, groups)
    labels = [np.empty(0, np.int32)]
    for first in units.first_rows():
        # rows ascend but where a document is parted, so a piece is read as one range
        start, stop = int(first.min()), int(first.max()) + 1
        labels.append(label(columns(start, stop))[first - start])
    of = np.concatenate(labels)
    shares = np.array([*strata.shares.values(), strata.other])
    totals = np.bincount(of, weights, len(shares))
    empty = np.flatnonzero((shares > 0) & (totals == 0))
    if len(empty):
        keys = [*map(repr, strata.shares), "other"]
        raise InvalidInput(
            f"{strata.column} {', '.join(keys[at] for at in empty)} should have a share of the "
            "draws, but no unit of a positive weight begins there: leave it out of shares"
        )
    factors = np.divide(shares, totals, out=np.zeros(len(shares)), where=totals > 0)
    return factors[of]


def _labeller(
    strata: StratumShares, groups: Callable[[], Mapping[int, str]]
) -> Callable[[TokenColumns], NDArray[np.int32]]:
    """Return what gives each row the number of its stratum, that of all others being the last."""
    keys = list(strata.shares)
    other = len(keys)
    match strata.column:
        case "group":
            numbers = {key: number for number, key in enumerate(keys)}
            of = {key: numbers.get(group, other) for key, group in groups().items()}

            def by_group(columns: TokenColumns) -> NDArray[np.int32]:
                documents, at = np.unique(columns.document, return_inverse=True)
                found = [of.get(int(document), other) for document in documents]
                return np.array(found, np.int32)[at.reshape(-1)]

            return by_group
        case "token_id" | "position":
            values = np.array(keys, np.int64)
            order = np.argsort(values)
            is_exact = strata.column == "token_id"

            def by_number(columns: TokenColumns) -> NDArray[np.int32]:
                column = columns.token_id if is_exact else columns.position
                found = np.asarray(column).astype(np.int64)
                at = np.searchsorted(values[order], found, "right") - 1
                numbers = np.where(at < 0, other, order[at])
                if is_exact:
                    numbers[values[order][at] != found] = other
                return numbers.astype(np.int32)

            return by_number


def _uniform(numbers: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each integer, the same for the same name on any machine.

    SplitMix64 (Steele, Lea, Flood 2014), which gives its i-th number without the ones before.
    """
    seed = int.from_bytes(hashlib.sha256(f"isogloss draw 1|{name}".encode()).digest()[:8], "little")
    words = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    words += np.uint64(seed)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
