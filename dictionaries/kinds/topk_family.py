"""What TopK, BatchTopK and Matryoshka have in common: settings, state, export; the optimiser."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from msgspec import Meta
from torch import Tensor

from isogloss.dictionaries.kinds.kind import InitialWeights, Kind, Normalisation, StepBatch
from isogloss.dictionaries.kinds.optimise import BETA2, EPSILON, clip_bound
from isogloss.dictionaries.kinds.state import (
    SAVED,
    centred_rows,
    export_biases,
    start_tied,
    state_group,
)
from isogloss.errors import InvalidInput
from isogloss.kernels import AdamMoments, StepSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class TopKFamily(Kind, ABC):
    """A dictionary of which k features fire, on each row or on average.

    Encoder and decoder start equal, with rows of the small norm ``init_norm``, and the norms of the
    decoder rows are free. What is chosen are the largest ``pre |w_i|``, w_i the feature's decoder
    row: how far the entry moves the reconstruction. On export the norms are folded into the
    encoder, so that decoder rows have norm 1 and codes are chosen by their own size. The optimiser
    is exact Adam (0.9, 0.99, 1e-8 / Var). Measured in ``docs/design/019-training-defaults.md``.
    """

    saved: ClassVar[Mapping[str, tuple[str, ...]]] = SAVED
    free_norms: ClassVar[bool] = True

    k: Annotated[int, Meta(ge=1)] = 32
    """Features that may fire on one row."""
    aux_k: Annotated[int, Meta(ge=0)] | None = None
    """Dead features that the auxiliary loss uses per row; None: ``k``, but at most half the width;
    0: no such loss."""
    k_start: Annotated[int, Meta(ge=1)] | None = None
    """Features that may fire at the first step where k is annealed; None: half the features, at
    least k."""
    k_anneal: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """First share of the steps, over which k falls linearly from its start to its value; 0: k is
    the same at all steps."""
    adam: Literal["exact", "lazy"] = "exact"
    """``exact`` moves every feature at every step; ``lazy`` leaves those whose gradient has no term
    in the step as they are, with their moments."""
    clip_norm: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Longest gradient that is used unchanged: the Euclidean norm over all parameters together. A
    longer one is shortened to it. None: 1 / Var, that is 1 for a loss that is not divided by the
    variance; 0: no bound."""
    init_norm: Annotated[float, Meta(gt=0, le=1e9)] = 0.2
    """Norm of the rows of encoder and decoder at the start."""

    @property
    def fires(self) -> float:
        """Features that fire on a row: ``k``."""
        return float(self.k)

    def check(self) -> None:
        """Raise InvalidInput where ``k`` or its start does not fit the number of features.

        Raises:
            InvalidInput: ``k`` is above ``features``, or ``k_start`` is not between the two.
        """
        if self.k > self.features:
            raise InvalidInput(f"k is {self.k} but features is {self.features}; lower k")
        if self.k_start is not None and not self.k <= self.k_start <= self.features:
            raise InvalidInput(
                f"k_start is {self.k_start}; wanted between k {self.k} and features {self.features}"
            )

    def start(self, initial: InitialWeights) -> dict[str, Tensor]:
        """Tie the encoder to the decoder, start the decoder bias at the mean row, moments at zero.

        Where other rows are reconstructed than are read, encoder and decoder start apart.
        """
        return start_tied(initial, norm=self.init_norm)

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        """Fold the decoder norms into the encoder, and divide both biases by the scale.

        With s the scale, ``x' = s x`` and codes ``z' = s z``: the features and directions stay the
        same, and codes come out in the unit of the raw rows.
        """
        return export_biases(tensors, normalisation, fold_norms=True)

    def rows_of(
        self, tensors: Mapping[str, Tensor], batch: StepBatch
    ) -> tuple[Tensor, Tensor | None]:
        """Return the rows that the kernel reads, and those it reconstructs if they are others."""
        if "input_bias" in tensors:
            return centred_rows(tensors, batch), batch.target
        return batch.rows, None

    def k_at(self, step: int, total_steps: int) -> int:
        """Return k of a step, counted from 1."""
        annealed = round(self.k_anneal * total_steps)
        if step > annealed:
            return self.k
        start = max(self.k, self.features // 2) if self.k_start is None else self.k_start
        return self.k + round((start - self.k) * (1 - (step - 1) / annealed))

    def _aux_k(self, width: int) -> int:
        return min(self.k, max(width // 2, 1)) if self.aux_k is None else self.aux_k

    def settings_of(self, batch: StepBatch, prefixes: tuple[int, ...] = ()) -> StepSettings:
        """Return what the kernel wants to know of a step."""
        width = batch.rows.shape[1]
        return StepSettings(
            k=self.k_at(batch.step, batch.total_steps),
            learning_rate=batch.learning_rate,
            variance=batch.variance,
            aux_k=min(self._aux_k(width), self.features),
            clip_norm=clip_bound(self.clip_norm, batch.variance),
            prefixes=prefixes,
            unit_norm=False,
            lazy=self.adam == "lazy",
            beta2=BETA2,
            epsilon=EPSILON / batch.variance,
        )


def moments_of(tensors: Mapping[str, Tensor]) -> AdamMoments:
    """Return Adam's moments among the tensors of a run."""
    return AdamMoments(first=state_group(tensors, "first"), second=state_group(tensors, "second"))
