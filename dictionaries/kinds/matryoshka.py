"""Matryoshka BatchTopK: every prefix of the features reconstructs (Bussmann, arXiv 2503.17547)."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from msgspec import Meta
from torch import Tensor

from isogloss.dictionaries.kinds.batch_topk import BatchTopK
from isogloss.dictionaries.kinds.kind import StepBatch
from isogloss.errors import InvalidInput
from isogloss.kernels import StepResult


@dataclass(frozen=True, kw_only=True, slots=True)
class MatryoshkaBatchTopK(BatchTopK):
    """BatchTopK in which the first features alone must reconstruct, for several nested prefixes.

    With z the codes of BatchTopK (chosen among all features), and r_m = sum_{i < m} z_i w_i + b_d -
    x the residual of the first m features, the loss over a batch of scaled rows is::

        L = (1 / M) sum_m mean |r_m|^2 / Var + (1/32) min(n_dead / aux_k, 1) AuxK

    the mean, not the sum, over the M prefixes, all of one weight; the last prefix is all features.
    AuxK is that of TopK for the residual of all features. So low features learn what is common and
    general, high ones what is left. Threshold, optimiser and decoder norms are those of BatchTopK.
    Features keep their order when the dictionary is saved: the first m are a dictionary themselves.
    """

    prefixes: tuple[Annotated[float, Meta(gt=0, le=1e9)], ...] = (0.0625, 0.125, 0.25, 0.5, 1.0)
    """Nested prefixes, rising: shares of the features, the last 1; or numbers of features, the last
    all of them. Numbers none of which is above 1 are shares."""

    def check(self) -> None:
        """Raise InvalidInput where the prefixes do not rise to all features.

        Raises:
            InvalidInput: as for BatchTopK; or prefixes that are no whole numbers of features, do
                not rise, or do not end with all features.
        """
        BatchTopK.check(self)
        sizes, shown = self.sizes(), list(self.prefixes)
        if not sizes or sizes[-1] != self.features:
            raise InvalidInput(
                f"prefixes are {shown}; wanted the last to be all features: 1 for shares, "
                f"{self.features} for numbers"
            )
        if not self._are_shares() and any(not float(one).is_integer() for one in self.prefixes):
            raise InvalidInput(
                f"prefixes are {shown}; wanted shares, all at most 1, or whole numbers of features"
            )
        if sizes[0] < 1 or any(one >= other for one, other in pairwise(sizes)):
            raise InvalidInput(
                f"prefixes are {shown}, which of {self.features} features are {list(sizes)}; "
                "wanted numbers that rise from 1 or more"
            )

    def sizes(self) -> tuple[int, ...]:
        """Return the number of features of each prefix."""
        factor = self.features if self._are_shares() else 1
        return tuple(round(one * factor) for one in self.prefixes)

    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        """Take one step of the fused kernel, and move the threshold."""
        return self.step_by(tensors, batch, self.sizes())

    def _are_shares(self) -> bool:
        return max(self.prefixes, default=0) <= 1
