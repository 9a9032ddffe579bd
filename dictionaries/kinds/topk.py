"""TopK: the k largest pre-activations of a row fire (Gao et al. 2024, arXiv 2406.04093)."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float32
from torch import Tensor

from isogloss.dictionaries.kinds.kind import StepBatch
from isogloss.dictionaries.kinds.state import centred_raw_rows, state_group
from isogloss.dictionaries.kinds.topk_family import TopKFamily, moments_of
from isogloss.kernels import (
    Codes,
    EncoderScreen,
    StepResult,
    encode_topk,
    screen_topk,
    train_step_topk,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TopK(TopKFamily):
    """Exactly k features may fire on a row.

    ``z = ReLU(TopK_k((x - b_d) W_e^T + b_e))`` and ``x_hat = z W_d + b_d``. With r = x_hat - x over
    a batch of scaled rows, the loss is::

        L = mean |r|^2 / Var + (1/32) min(n_dead / aux_k, 1) AuxK
        AuxK = sum |z_dead W_d + r|^2 / sum |r - mean r|^2         r a constant here

    where z_dead are the ``aux_k`` largest pre-activations among dead features. AuxK trains encoder
    and decoder. The optimiser is exact Adam (0.9, 0.999, 1e-8); decoder rows keep norm 1 and their
    gradients are projected.
    """

    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        """Take one step of the fused kernel."""
        settings, (rows, target) = self.settings_of(batch), self.rows_of(tensors, batch)
        return train_step_topk(
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

    def encode(self, tensors: Mapping[str, Tensor], rows: Float32[Tensor, "rows width"]) -> Codes:
        """Return the ``k`` features of each row, strongest first; missing ones have value 0."""
        # the bias is subtracted rather than folded into encoder_bias: a large mean would cancel
        centred = centred_raw_rows(tensors, rows)
        return encode_topk(centred, tensors["encoder"], tensors["encoder_bias"], self.k)

    def may_fire(
        self,
        tensors: Mapping[str, Tensor],
        rows: Float32[Tensor, "rows width"],
        screen: EncoderScreen,
    ) -> Tensor | None:
        """Return the features that may be among the ``k`` largest of some row."""
        return screen_topk(centred_raw_rows(tensors, rows), screen, self.k)
