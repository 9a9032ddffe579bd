"""Measure how well a dictionary reconstructs rows that it was not trained on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from isogloss.dictionaries.dictionary import Dictionary
from isogloss.errors import InvalidInput, NonFiniteRows, ShapeError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """Figures over one fixed set of rows; all sums in float64."""

    rows: int
    """Rows evaluated."""
    fvu: float
    """Fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean|^2, the mean taken over
    these rows. One ratio of sums, not a mean of ratios."""
    l0: float
    """Features that fire per row."""
    dead_fraction: float
    """Share of features that fire on none of the rows."""
    density: NDArray[np.float64]
    """Share of the rows on which each feature fires, ``[features]``."""

    def to_dict(self) -> dict[str, int | float]:
        """Return the scalar figures as JSON-ready values (without the density)."""
        return {
            "rows": self.rows,
            "fvu": self.fvu,
            "l0": self.l0,
            "dead_fraction": self.dead_fraction,
        }


@torch.no_grad()
def evaluate(dictionary: Dictionary, batches: Iterable[Float[Tensor, "_rows width"]]) -> Evaluation:
    """Reconstruct rows and measure what is lost.

    Args:
        dictionary: any kind.
        batches: raw activations ``[rows, width]``, any floating point type.

    Raises:
        InvalidInput: no rows, or rows without variance.
        NonFiniteRows: rows or reconstructions hold NaN or infinity.
        ShapeError: rows of another width.
    """
    fires = np.zeros(dictionary.features, dtype=np.int64)
    sums = _Sums(dictionary.width)
    for batch in batches:
        codes = dictionary.encode(batch)
        reconstruction = dictionary.decode(codes)
        if reconstruction.shape != batch.shape:
            raise ShapeError(
                f"reconstruction is {tuple(reconstruction.shape)}, rows {tuple(batch.shape)}"
            )
        sums.add(batch, reconstruction)
        active = codes.indices[codes.values > 0].cpu().numpy()
        fires += np.bincount(active, minlength=dictionary.features)
    if sums.rows == 0:
        raise InvalidInput("no rows to evaluate on; raise holdout or record more text")
    return Evaluation(
        rows=sums.rows,
        fvu=sums.fvu(),
        l0=float(fires.sum()) / sums.rows,
        dead_fraction=float(np.mean(fires == 0)),
        density=fires / sums.rows,
    )


class _Sums:
    """Running sums of one evaluation, about the first row so that a large mean does not cancel."""

    def __init__(self, width: int) -> None:
        self.rows = 0
        self._origin: NDArray[np.float64] | None = None
        self._total = np.zeros(width)
        self._squares = np.zeros(width)
        self._errors = 0.0

    def add(self, rows: Tensor, reconstruction: Tensor) -> None:
        found = rows.detach().cpu().to(torch.float64).numpy()
        if len(found) == 0:
            return
        if self._origin is None:
            self._origin = found[0].copy()
        residual = found - reconstruction.detach().cpu().to(torch.float64).numpy()
        centred = found - self._origin
        self._errors += float(np.square(residual).sum())
        self._total += centred.sum(axis=0)
        self._squares += np.square(centred).sum(axis=0)
        self.rows += len(found)
        if not np.isfinite(self._errors):
            raise NonFiniteRows(
                f"rows {self.rows - len(found)} to {self.rows} or their reconstruction hold NaN or "
                "infinity; wanted finite activations"
            )

    def fvu(self) -> float:
        variance = float((self._squares - np.square(self._total) / self.rows).sum())
        if variance <= 0:
            raise InvalidInput(
                f"the {self.rows} rows do not vary; FVU needs at least two different rows"
            )
        return self._errors / variance
