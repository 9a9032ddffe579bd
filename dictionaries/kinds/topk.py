"""TopK: the k largest pre-activations of a row fire (Gao et al. 2024, arXiv 2406.04093)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from jaxtyping import Float32
from msgspec import Meta
from torch import Tensor

from isogloss.dictionaries.kinds.kind import InitialWeights, Kind, Normalisation, StepBatch
from isogloss.errors import InvalidInput
from isogloss.kernels import (
    AdamMoments,
    Codes,
    StepResult,
    StepSettings,
    Weights,
    encode_topk,
    train_step_topk,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TopK(Kind):
    """Exactly k features may fire on a row.

    ``z = ReLU(TopK_k((x - b_d) W_e^T + b_e))`` and ``x_hat = z W_d + b_d``. With r = x_hat - x over
    a batch of scaled rows, the loss is::

        L = mean |r|^2 / Var + (1/32) min(n_dead / aux_k, 1) AuxK
        AuxK = sum |z_dead W_d + r|^2 / sum |r - mean r|^2         r a constant here

    where z_dead are the ``aux_k`` largest pre-activations among dead features. AuxK trains encoder
    and decoder. The optimiser is exact Adam (0.9, 0.999, 1e-8); decoder rows keep norm 1 and their
    gradients are projected.
    """

    saved: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "encoder": ("features", "width"),
        "encoder_bias": ("features",),
        "decoder": ("features", "width"),
        "decoder_bias": ("width",),
    }

    k: Annotated[int, Meta(ge=1)] = 32
    """Features that may fire on one row."""
    aux_k: Annotated[int, Meta(ge=0)] | None = None
    """Dead features that the auxiliary loss uses per row; None: half the width; 0: no such loss."""

    def check(self) -> None:
        """Raise InvalidInput where ``k`` is above the number of features.

        Raises:
            InvalidInput: ``k`` is above ``features``.
        """
        if self.k > self.features:
            raise InvalidInput(f"k is {self.k} but features is {self.features}; lower k")

    def start(self, initial: InitialWeights) -> dict[str, Tensor]:
        """Tie the encoder to the decoder, start the decoder bias at the mean row, moments at zero.

        Raises:
            InvalidInput: the rows to reconstruct are not the rows read.
        """
        if not initial.reads_what_it_writes:
            raise InvalidInput(
                "kind 'topk' reconstructs the rows that it reads; wanted a wiring whose sites come "
                "out as they go in"
            )
        decoder = initial.decoder
        weights = Weights(
            encoder=initial.encoder.clone(),
            encoder_bias=decoder.new_zeros(decoder.shape[0]),
            decoder=decoder.clone(),
            decoder_bias=initial.mean.to(decoder.dtype).clone(),
        )
        moments = AdamMoments.zeros_like(weights)
        groups = {"weights": weights, "first": moments.first, "second": moments.second}
        return {
            f"{group}.{name}": tensor
            for group, members in groups.items()
            for name, tensor in members.named().items()
        }

    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        """Take one step of the fused kernel."""
        width = batch.rows.shape[1]
        aux_k = min(width // 2 if self.aux_k is None else self.aux_k, self.features)
        settings = StepSettings(
            k=self.k, learning_rate=batch.learning_rate, variance=batch.variance, aux_k=aux_k
        )
        return train_step_topk(
            batch.rows,
            _group(tensors, "weights"),
            AdamMoments(first=_group(tensors, "first"), second=_group(tensors, "second")),
            settings,
            step=batch.step,
            dead=batch.dead if aux_k else None,
            workspace=batch.workspace,
        )

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        """Divide both biases by the scale.

        With s the scale, ``x' = s x`` and codes ``z' = s z``: the features and directions stay the
        same, and codes come out in the unit of the raw rows.
        """
        trained = _group(tensors, "weights")
        return {
            "encoder": trained.encoder.clone(),
            "encoder_bias": trained.encoder_bias / normalisation.scale,
            "decoder": trained.decoder.clone(),
            "decoder_bias": trained.decoder_bias / normalisation.scale,
        }

    def encode(self, tensors: Mapping[str, Tensor], rows: Float32[Tensor, "rows width"]) -> Codes:
        """Return the ``k`` features of each row, strongest first; missing ones have value 0."""
        # the bias is subtracted rather than folded into encoder_bias: a large mean would cancel
        centred = rows - tensors["decoder_bias"]
        return encode_topk(centred, tensors["encoder"], tensors["encoder_bias"], self.k)


def _group(tensors: Mapping[str, Tensor], group: str) -> Weights:
    return Weights(
        encoder=tensors[f"{group}.encoder"],
        encoder_bias=tensors[f"{group}.encoder_bias"],
        decoder=tensors[f"{group}.decoder"],
        decoder_bias=tensors[f"{group}.decoder_bias"],
    )
