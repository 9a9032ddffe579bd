"""The pairs of features that a match found, a column a statistic, and what each says."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, ShapeError
from isogloss.short_repr import short_repr
from isogloss.universality.nulls.labels import LABELS, LabelName

Number = int | float | bool | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Mutual pairs, strongest first; every array ``[pairs]``.

    The *choose* half of the probe chose the pairs, the *report* half did not: ``r_choose`` and
    ``margin`` come from the first, everything else from the second. What tells pairs from chance
    (``replicates`` and all that begins with ``beyond``) is measured on compressed codes.
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
    """Lower end of the interval of ``r`` over sources of text; NaN with fewer than 20 sources."""
    ci_high: NDArray[np.float64]
    """Upper end of the interval of ``r`` over sources of text; NaN with fewer than 20 sources."""
    ci_high_loose: NDArray[np.bool_]
    """Fewer than 10 co-firings, or fewer than 10 effective firings of either feature (a few strong
    rows hold its variance): the truth may lie above ``ci_high``."""
    rank_a: NDArray[np.int32]
    """Rank of ``feature_a`` among the partners of ``feature_b`` on the report half; 1 is the best.
    On the half that chose the pair both ranks are 1."""
    rank_b: NDArray[np.int32]
    """Rank of ``feature_b`` among the partners of ``feature_a`` on the report half."""
    fires_a: NDArray[np.int64]
    """Segments on which the first feature fires."""
    fires_b: NDArray[np.int64]
    """Segments on which the second feature fires."""
    cofires: NDArray[np.int64]
    """Segments on which both fire."""
    jaccard: NDArray[np.float64]
    """``cofires`` over the segments on which either fires."""
    token_null: NDArray[np.float64]
    """Mean r when each segment takes another one of the same token; NaN where too few have one."""
    position_null: NDArray[np.float64]
    """Mean r when each segment takes another one at the same position (the sequence null)."""
    document_null: NDArray[np.float64]
    """Mean r when each segment takes another one of its document (the topic null)."""
    partial_token: NDArray[np.float64]
    """Correlation among segments of the same token; NaN where neither can vary there."""
    eta2_token_a: NDArray[np.float64]
    """Share of the first feature's variance that the token explains; NaN as ``token_null``."""
    eta2_token_b: NDArray[np.float64]
    """Share of the second feature's variance that the token explains; NaN as ``token_null``."""
    replicates: NDArray[np.int8]
    """Whether the pair holds on the report half, a number of ``LABELS``."""
    beyond_token: NDArray[np.int8]
    """Whether the pair shares more than its token, a number of ``LABELS``."""
    beyond_partial: NDArray[np.float64]
    """Correlation among segments of the same token, of compressed codes."""
    beyond_low: NDArray[np.float64]
    """Lower end of the 90 % interval of ``beyond_partial`` over sources."""
    beyond_high: NDArray[np.float64]
    """Upper end of the 90 % interval of ``beyond_partial`` over sources."""
    beyond_p: NDArray[np.float64]
    """Chance that a shuffle among segments of the same token gives so high a partial."""
    movable: NDArray[np.int64]
    """Firings on tokens that stand in other segments too, of the feature that has fewer."""
    positional: NDArray[np.bool_]
    """The position explains what the pair shares beyond its token."""
    cosine: NDArray[np.float64]
    """Cosine of the codes, not centred: Σab / √(Σa² Σb²); 0 where one never fires."""
    b_given_a: NDArray[np.float64]
    """``cofires / fires_a``: how often the second fires where the first does; NaN where that never
    fires."""
    a_given_b: NDArray[np.float64]
    """``cofires / fires_b``."""
    decoder_cosine: NDArray[np.float64]
    """Cosine of what the features write; NaN where widths differ or weights are unknown. Two models
    of one width have spaces of their own: read it beside ``Match.decoders``."""
    encoder_cosine: NDArray[np.float64]
    """Cosine of what the features read; NaN as ``decoder_cosine``."""

    __repr__ = short_repr

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
        """What explains each pair, for reading: ``token``, ``position``, ``document`` or ``none``.

        It is ``position`` where that was tested and explains what lies beyond the token; else the
        first null that alone gives at least half of ``r``. The half is arbitrary: ``beyond_token``
        is tested, so a pair that shares more than its token is not called explained by it.
        """
        half = self.r / 2
        by_token, *others = (
            (null >= half) & (self.r > 0)
            for null in (self.token_null, self.position_null, self.document_null)
        )
        labels = np.select(
            [self.positional, by_token & ~self.beyond_token_is("yes"), *others],
            ["position", "token", "position", "document"],
            "none",
        )
        return [str(label) for label in labels]

    def replicates_is(self, label: LabelName) -> NDArray[np.bool_]:
        """Return which pairs have this label of ``replicates``, ``[pairs]``."""
        return self.replicates == LABELS.index(label)

    def beyond_token_is(self, label: LabelName) -> NDArray[np.bool_]:
        """Return which pairs have this label of ``beyond_token``, ``[pairs]``."""
        return self.beyond_token == LABELS.index(label)

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

    def row(self, number: int) -> dict[str, Number | str]:
        """Return one pair as JSON values: every column and ``excess``.

        NaN becomes None, and labels are written out.
        """
        found: dict[str, Number | str] = {
            name: plain(column[number]) for name, column in self.columns().items()
        }
        found |= {name: LABELS[int(column[number])] for name, column in self.labels().items()}
        found["excess"] = plain(self.excess[number])
        return found

    def labels(self) -> dict[str, NDArray[np.int8]]:
        """Return the columns that hold labels, by name."""
        return {"replicates": self.replicates, "beyond_token": self.beyond_token}


def plain(value: np.generic) -> Number:
    """Return a numpy scalar as a JSON value; None where it is not a finite number."""
    found = value.item()
    if isinstance(found, float):
        return found if np.isfinite(found) else None
    return found if isinstance(found, int) else None
