"""The pairs of features that a match found, a column a statistic, and what each says."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, ShapeError

Number = int | float | bool | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Mutual pairs, strongest first; every array ``[pairs]``.

    The *choose* half of the probe chose the pairs, the *report* half did not: ``r_choose`` and
    ``margin`` come from the first, everything else from the second.
    """

    feature_a: NDArray[np.int32]
    """Feature of the first dictionary."""
    feature_b: NDArray[np.int32]
    """Feature of the second dictionary."""
    r_choose: NDArray[np.float64]
    """Correlation on the half that chose the pair: optimistic, since it was the largest of many."""
    margin: NDArray[np.float64]
    """``r_choose`` minus the best r that either feature has with another partner."""
    r: NDArray[np.float64]
    """Correlation on the half of the probe that did not choose the pair."""
    ci_low: NDArray[np.float64]
    """Lower end of the bootstrap interval of ``r`` over sources of text."""
    ci_high: NDArray[np.float64]
    """Upper end of the bootstrap interval of ``r`` over sources of text."""
    fires_a: NDArray[np.int64]
    """Segments on which the first feature fires."""
    fires_b: NDArray[np.int64]
    """Segments on which the second feature fires."""
    cofires: NDArray[np.int64]
    """Segments on which both fire."""
    jaccard: NDArray[np.float64]
    """``cofires`` over the segments on which either fires."""
    token_null: NDArray[np.float64]
    """Mean r when segments are shuffled among those of the same token."""
    position_null: NDArray[np.float64]
    """Mean r when segments are shuffled among those at the same position (the sequence null)."""
    document_null: NDArray[np.float64]
    """Mean r when segments are shuffled within their document (the topic null)."""
    partial_token: NDArray[np.float64]
    """Correlation among segments of the same token; NaN where neither can vary there."""
    eta2_token_a: NDArray[np.float64]
    """Share of the first feature's variance that the token explains."""
    eta2_token_b: NDArray[np.float64]
    """Share of the second feature's variance that the token explains."""
    replicated: NDArray[np.bool_]
    """``r`` reaches ``MatchSettings.replicated_r`` and the null's quantile on both sides."""

    def __post_init__(self) -> None:
        lengths = {field.name: getattr(self, field.name).shape for field in fields(self)}
        if len(set(lengths.values())) > 1 or self.feature_a.ndim != 1:
            raise ShapeError(f"columns of pairs must all be [pairs], found {lengths}")

    def __len__(self) -> int:
        return len(self.feature_a)

    @property
    def excess(self) -> NDArray[np.float64]:
        """``r - token_null``: the part of ``r`` that equal tokens do not explain, ``[pairs]``."""
        return self.r - self.token_null

    @property
    def explained_by(self) -> list[str]:
        """A label for each pair, for reading: the null that alone gives at least half of ``r``.

        It is ``token``, ``position``, ``document`` (the first of these that does) or ``none``. The
        half is arbitrary; the partial correlation says more.
        """
        half = self.r / 2
        nulls = (self.token_null, self.position_null, self.document_null)
        labels = np.select(
            [(null >= half) & (self.r > 0) for null in nulls],
            ["token", "position", "document"],
            "none",
        )
        return [str(label) for label in labels]

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return every column by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[np.generic]]) -> "Pairs":
        """Rebuild from ``columns``.

        Args:
            columns: arrays by the name of their column; other names are ignored.

        Returns:
            The pairs.

        Raises:
            CorruptData: a column is missing.
        """
        names = [field.name for field in fields(cls)]
        missing = [name for name in names if name not in columns]
        if missing:
            raise CorruptData(f"pairs lack {', '.join(missing)}; match the dictionaries again")
        # The columns have the types of the fields because the same class wrote them.
        return cls(**{name: columns[name] for name in names})  # pyright: ignore[reportArgumentType]

    def take(self, rows: NDArray[np.integer]) -> "Pairs":
        """Return the given pairs in the given order."""
        return Pairs.from_columns({name: column[rows] for name, column in self.columns().items()})

    def row(self, number: int) -> dict[str, Number]:
        """Return one pair as JSON values: every column and ``excess``; NaN becomes None."""
        found: dict[str, Number] = {
            name: plain(column[number]) for name, column in self.columns().items()
        }
        found["excess"] = plain(self.excess[number])
        return found


def plain(value: np.generic) -> Number:
    """Return a numpy scalar as a JSON value; None where it is not a finite number."""
    found = value.item()
    if isinstance(found, float):
        return found if np.isfinite(found) else None
    return found if isinstance(found, int) else None
