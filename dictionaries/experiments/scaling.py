"""How the error falls with features, features a row and rows: a power law and its intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from isogloss.dictionaries.experiments.frontier import SweptDictionary
from isogloss.errors import InvalidInput

AXES = ("features", "k", "rows")
"""What the law is of; an axis that has one value in a sweep is not in its law."""
_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    """Estimate."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScalingLaw:
    """``FVU = exp(c) features^a k^b rows^d``, fitted by least squares to log FVU.

    There is no floor that remains with more of everything: a sweep of one decade cannot tell it
    from a smaller exponent. Inside the range of the sweep the law interpolates; far outside it
    promises too much. Intervals are those of linear regression: Student's t, deviations of log FVU
    alike and independent.
    """

    exponents: Mapping[str, Interval]
    """Of each axis that varied."""
    deviation: float
    """Standard deviation of log FVU about the law."""
    degrees: int
    """Degrees of freedom: dictionaries less parameters."""
    coefficients: NDArray[np.float64]
    """Constant c and exponents, as they were fitted to logarithms."""
    covariance: NDArray[np.float64]
    """Of their errors."""

    def predict(self, *, features: float, k: float, rows: float) -> Interval:
        """Return the FVU of one more dictionary, with the interval in which it would fall."""
        values = {"features": features, "k": k, "rows": rows}
        place = np.array([1.0, *(np.log(values[name]) for name in self.exponents)])
        middle = float(place @ self.coefficients)
        spread = float(place @ self.covariance @ place) + self.deviation**2
        wide = _quantile(self.degrees) * spread**0.5
        low, value, high = np.exp([middle - wide, middle, middle + wide])
        return Interval(value=float(value), low=float(low), high=float(high))


def fit_scaling(dictionaries: Sequence[SweptDictionary]) -> ScalingLaw:
    """Fit the law to the dictionaries of one site and kind.

    k is the mean number of features that fire, which is what a kind that is asked for k reaches.

    Raises:
        InvalidInput: nothing varies, two axes vary together so that they cannot be told apart, or
            there are no more dictionaries than parameters.
    """
    table = {
        "features": [float(one.key.features) for one in dictionaries],
        "k": [one.l0 for one in dictionaries],
        "rows": [float(one.rows) for one in dictionaries],
    }
    varied = [name for name in AXES if table[name] and _varies(table[name])]
    count, wanted = len(dictionaries), len(varied) + 2
    if not varied or count < wanted:
        raise InvalidInput(
            f"{count} dictionaries vary in {varied or 'nothing'}; wanted at least {wanted}, which "
            f"vary in {' or '.join(AXES)}: sweep over more"
        )
    columns = [np.ones(count), *(np.log(table[name]) for name in varied)]
    design = np.stack(columns, axis=1)
    if np.linalg.matrix_rank(design, tol=1e-6 * count) < design.shape[1]:
        raise InvalidInput(
            f"{' and '.join(varied)} vary together in all dictionaries, so their exponents cannot "
            "be told apart: sweep over each by itself"
        )
    errors = np.log([one.fvu for one in dictionaries])
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ (design.T @ errors)
    degrees = count - design.shape[1]
    deviation = float(np.sqrt(np.square(errors - design @ found).sum() / degrees))
    wide = _quantile(degrees) * deviation * np.sqrt(np.diag(inverse))
    exponents = {
        name: Interval(
            value=float(found[place]),
            low=float(found[place] - wide[place]),
            high=float(found[place] + wide[place]),
        )
        for place, name in enumerate(varied, 1)
    }
    return ScalingLaw(
        exponents=exponents,
        deviation=deviation,
        degrees=degrees,
        coefficients=found,
        covariance=(deviation**2 * inverse).astype(np.float64),
    )


def _quantile(degrees: int) -> float:
    return float(stats.t.ppf(0.5 + _CONFIDENCE / 2, degrees))


def _varies(values: Sequence[float]) -> bool:
    return max(values) > 1.05 * min(values)
