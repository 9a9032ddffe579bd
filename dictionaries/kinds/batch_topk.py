"""BatchTopK: the k * rows largest pre-activations of a batch (Bussmann 2024, arXiv 2412.06410)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float32
from msgspec import Meta
from torch import Tensor

from isogloss.dictionaries.kinds.kind import InitialWeights, Normalisation, StepBatch
from isogloss.dictionaries.kinds.state import centred_raw_rows, state_group
from isogloss.dictionaries.kinds.topk_family import TopKFamily, moments_of
from isogloss.errors import InvalidInput
from isogloss.kernels import (
    Codes,
    EncoderScreen,
    StepResult,
    encode_threshold,
    screen_threshold,
    train_step_batch_topk,
)

_UNSET = -1.0
_HINT = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchTopK(TopKFamily):
    """On average k features fire on a row: as many as it needs, chosen over the whole batch.

    ``pre = (x - b_d) W_e^T + b_e``; z keeps the ``k * rows`` largest positive entries of ``pre`` of
    the whole batch, by (value descending, row, feature), and is 0 elsewhere; ``x_hat = z W_d +
    b_d``. The loss is that of TopK, AuxK included::

        L = mean |r|^2 / Var + (1/32) min(n_dead / aux_k, 1) AuxK              r = x_hat - x
        AuxK = sum |z_dead W_d + r|^2 / sum |r - mean r|^2         r a constant here

    At inference no row may depend on others: a feature fires where ``pre > theta``. Theta is a
    running mean over the training batches of the smallest value kept, ``theta <- d theta + (1 - d)
    min z`` with d ``threshold_decay``, from the first batch's value on (float64 while training).
    Batches without a positive entry leave it. Optimiser and decoder norms are those of TopK.
    """

    saved: ClassVar[Mapping[str, tuple[str, ...]]] = {**TopKFamily.saved, "threshold": ()}

    threshold_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    """Share of the running threshold that a batch leaves."""

    def start(self, initial: InitialWeights) -> dict[str, Tensor]:
        """Start as TopK, with a threshold that is not set yet (-1).

        Beside it stands the smallest value that the last step kept: the next step's choice begins
        with it, which saves time and changes nothing.
        """
        unset = {
            name: torch.tensor(_UNSET, dtype=torch.float64)
            for name in ("threshold", "last_smallest")
        }
        return {**TopKFamily.start(self, initial), **unset}

    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        """Take one step of the fused kernel, and move the threshold."""
        return self.step_by(tensors, batch, ())

    def step_by(
        self, tensors: Mapping[str, Tensor], batch: StepBatch, prefixes: tuple[int, ...]
    ) -> StepResult:
        """Take a step whose squared error is the mean over prefixes; none: of all features."""
        hint = _HINT * max(0.0, float(tensors["last_smallest"]))
        settings = replace(self.settings_of(batch, prefixes), threshold_hint=hint)
        rows, target = self.rows_of(tensors, batch)
        result = train_step_batch_topk(
            rows,
            state_group(tensors, "weights"),
            moments_of(tensors),
            settings,
            step=batch.step,
            target=target,
            columns=batch.columns,
            dead=batch.dead if settings.aux_k else None,
            workspace=batch.workspace,
            share=batch.share,
        )
        if result.threshold:
            tensors["last_smallest"].fill_(result.threshold)
            held, decay = tensors["threshold"], self.threshold_decay
            before = float(held)
            started = before >= 0
            held.fill_(
                decay * before + (1 - decay) * result.threshold if started else result.threshold
            )
        return result

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        """Divide biases and threshold by the scale; a threshold that was never set stays -1."""
        held = float(tensors["threshold"])
        threshold = held / normalisation.scale if held >= 0 else _UNSET
        return {
            **TopKFamily.export(self, tensors, normalisation),
            "threshold": torch.tensor(threshold, dtype=torch.float32),
        }

    def encode(self, tensors: Mapping[str, Tensor], rows: Float32[Tensor, "rows width"]) -> Codes:
        """Return the features above the threshold, ragged.

        Raises:
            InvalidInput: the threshold was never set: no training step kept a positive entry.
        """
        threshold = tensors["threshold"]
        if float(threshold) < 0:
            raise InvalidInput(
                f"the threshold is {float(threshold)}, so it was never set; train for at least one "
                "step whose batch has a positive pre-activation"
            )
        centred = centred_raw_rows(tensors, rows)
        return encode_threshold(centred, tensors["encoder"], tensors["encoder_bias"], threshold)

    def may_fire(
        self,
        tensors: Mapping[str, Tensor],
        rows: Float32[Tensor, "rows width"],
        screen: EncoderScreen,
    ) -> Tensor | None:
        """Return the features that may lie above the threshold on some row."""
        return screen_threshold(centred_raw_rows(tensors, rows), screen, tensors["threshold"])
