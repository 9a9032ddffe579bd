"""Measure how well a dictionary reconstructs rows that it was not trained on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from isogloss.dictionaries.dictionary import Dictionary
from isogloss.dictionaries.rows.batches import HeldOutPair
from isogloss.dictionaries.rows.usual import SAMPLE_ROWS, UsualRows
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.errors import InvalidInput, NonFiniteRows, ShapeError
from isogloss.kernels import Codes
from isogloss.short_repr import short_repr

_BLOCK = 2048


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """Figures over one fixed set of rows; all sums in float64."""

    rows: int
    """Rows evaluated."""
    fvu: float
    """Fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean|^2, the mean taken over
    these rows. One ratio of sums, not a mean of ratios."""
    usual_fvu: float
    """``fvu`` of the usual rows alone: those at most 10 times as far from the centre as the median
    row, both taken from the first batch. A few rows of huge norm, such as attention sinks, can hold
    nearly all of the variance; then ``fvu`` is theirs and says little of the others."""
    usual_rows: int
    """How many of the rows are usual."""
    site_fvu: tuple[float, ...] = ()
    """``fvu`` of each site that is reconstructed, where there are several."""
    l0: float
    """Features that fire per row."""
    dead_fraction: float
    """Share of features that fire on none of the rows."""
    density: NDArray[np.float64]
    """Share of the rows on which each feature fires, ``[features]``."""
    explained_by_row: float
    """Explained variance the other way: the mean over rows of ``1 - |x - x_hat|^2 / |x - c|^2``, c
    the mean of the first batch; rows at c are left out. Rows near c weigh as much as far ones, so
    that it may be far below 1 - FVU. Older crosscoder code reports this one."""
    shrinkage: float
    """``sum |y_hat|^2 / sum y_hat . y`` about the mean of the rows: below 1 where reconstructions
    are too short, as an L1 penalty makes them (arXiv 2404.16014, relative reconstruction bias). NaN
    where nothing is reconstructed."""
    redundancy: float
    """Mean over features that fire of the greatest cosine of their direction to that of another
    one that fires; 0 where fewer than two do."""

    @property
    def explained_variance(self) -> float:
        """``1 - fvu``."""
        return 1 - self.fvu

    __repr__ = short_repr

    def to_dict(self) -> dict[str, int | float]:
        """Return the scalar figures as JSON-ready values (without the density)."""
        return {
            "rows": self.rows,
            "fvu": self.fvu,
            "usual_fvu": self.usual_fvu,
            "usual_rows": self.usual_rows,
            **{f"site_{place}_fvu": value for place, value in enumerate(self.site_fvu)},
            "l0": self.l0,
            "dead_fraction": self.dead_fraction,
            "explained_variance": self.explained_variance,
            "explained_by_row": self.explained_by_row,
            **({} if np.isnan(self.shrinkage) else {"shrinkage": self.shrinkage}),
            "redundancy": self.redundancy,
        }


@torch.no_grad()
def evaluate(
    dictionary: Dictionary,
    batches: Iterable[Float[Tensor, "_rows width"] | HeldOutPair],
    *,
    parts: Sequence[range] = (),
) -> Evaluation:
    """Reconstruct rows and measure what is lost.

    Args:
        dictionary: any kind.
        batches: raw activations ``[rows, width]``, any floating point type; where the dictionary
            reconstructs other rows than it reads, pairs of both.
        parts: columns of each site among those that are reconstructed; empty: there is one.

    Raises:
        InvalidInput: no rows, or rows without variance.
        NonFiniteRows: rows or reconstructions hold NaN or infinity.
        ShapeError: rows of another width.
    """
    fires = np.zeros(dictionary.features, dtype=np.int64)
    width = dictionary.decoder.shape[1]
    sums, usual_sums, usual = _Sums(width), _Sums(width), None
    for batch in batches:
        rows, target = batch if isinstance(batch, HeldOutPair) else (batch, batch)
        codes = dictionary.encode(rows)
        reconstruction = _reconstruct(dictionary, rows, codes)
        if reconstruction.shape != target.shape:
            raise ShapeError(
                f"reconstruction is {tuple(reconstruction.shape)}, rows {tuple(target.shape)}"
            )
        sums.add(target, reconstruction)
        active = codes.indices[codes.values > 0].cpu().numpy()
        fires += np.bincount(active, minlength=dictionary.features)
        if len(target) == 0:
            continue
        found = target.detach().cpu().to(torch.float64).numpy()
        usual = usual or UsualRows.of(found[:SAMPLE_ROWS])
        inside = torch.from_numpy(usual.mask(found)).to(target.device)
        usual_sums.add(target[inside], reconstruction[inside])
    if sums.rows == 0:
        raise InvalidInput("no rows to evaluate on; raise holdout or record more text")
    return Evaluation(
        rows=sums.rows,
        fvu=sums.fvu(),
        usual_fvu=usual_sums.fvu(),
        usual_rows=usual_sums.rows,
        site_fvu=tuple(sums.fvu(part) for part in parts),
        l0=float(fires.sum()) / sums.rows,
        dead_fraction=float(np.mean(fires == 0)),
        density=fires / sums.rows,
        explained_by_row=sums.explained_by_row(),
        shrinkage=sums.shrinkage(),
        redundancy=_redundancy(dictionary.decoder[torch.from_numpy(fires > 0)]),
    )


def _reconstruct(dictionary: Dictionary, rows: Tensor, codes: Codes) -> Tensor:
    if isinstance(dictionary, SparseDictionary):
        return dictionary.reconstruct(rows, codes)
    return dictionary.decode(codes)


def _redundancy(directions: Tensor) -> float:
    """Return the mean of each direction's greatest cosine to another, in blocks."""
    if len(directions) < 2:
        return 0.0
    unit = directions.detach().cpu().to(torch.float32)
    unit = unit / unit.square().sum(1, keepdim=True).sqrt().clamp(min=1e-30)
    total = 0.0
    for start in range(0, len(unit), _BLOCK):
        cosines = unit[start : start + _BLOCK] @ unit.T
        own = torch.arange(len(cosines))
        cosines[own, start + own] = -1.0
        total += float(cosines.max(dim=1).values.to(torch.float64).sum())
    return total / len(unit)


class _Sums:
    """Running sums of one evaluation, about the first row so that a large mean does not cancel."""

    def __init__(self, width: int) -> None:
        self.rows = 0
        self._origin: NDArray[np.float64] | None = None
        self._total = np.zeros(width)
        self._squares = np.zeros(width)
        self._errors = np.zeros(width)
        self._made_total, self._made_squares, self._products = np.zeros((3, width))
        self._centre: NDArray[np.float64] | None = None
        self._by_row = [0.0, 0]

    def add(self, rows: Tensor, reconstruction: Tensor) -> None:
        found = rows.detach().cpu().to(torch.float64).numpy()
        if len(found) == 0:
            return
        if self._origin is None:
            self._origin = found[0].copy()
            self._centre = found.mean(axis=0)
        made = reconstruction.detach().cpu().to(torch.float64).numpy() - self._origin
        centred = found - self._origin
        residual = centred - made
        self._errors += np.square(residual).sum(axis=0)
        self._made_total += made.sum(axis=0)
        self._made_squares += np.square(made).sum(axis=0)
        self._products += (made * centred).sum(axis=0)
        away = np.square(found - self._centre).sum(axis=1)
        some = away > 0
        self._by_row[0] += float((1 - np.square(residual[some]).sum(axis=1) / away[some]).sum())
        self._by_row[1] += int(some.sum())
        self._total += centred.sum(axis=0)
        self._squares += np.square(centred).sum(axis=0)
        self.rows += len(found)
        if not np.isfinite(self._errors).all():
            raise NonFiniteRows(
                f"rows {self.rows - len(found)} to {self.rows} or their reconstruction hold NaN or "
                "infinity; wanted finite activations"
            )

    def explained_by_row(self) -> float:
        """Return the mean over rows of what is explained of each."""
        return self._by_row[0] / max(self._by_row[1], 1)

    def shrinkage(self) -> float:
        """Return how long reconstructions are, beside what they should be."""
        mean, rows = self._total / self.rows, self.rows
        squares = self._made_squares - 2 * mean * self._made_total + rows * np.square(mean)
        products = self._products - mean * self._made_total
        products += rows * np.square(mean) - mean * self._total
        below = float(products.sum())
        return float(squares.sum()) / below if below else float("nan")

    def fvu(self, part: range | None = None) -> float:
        """Return the figure of some of the columns, or of all."""
        own = slice(None) if part is None else slice(part.start, part.stop)
        variance = float((self._squares - np.square(self._total) / self.rows)[own].sum())
        if variance <= 0:
            raise InvalidInput(
                f"the {self.rows} rows do not vary; FVU needs at least two different rows"
            )
        return float(self._errors[own].sum()) / variance
