"""ReLU with an L1 penalty weighted by decoder norms (Anthropic, April 2024 update)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float32
from msgspec import Meta
from torch import Tensor

from isogloss.dictionaries.kinds.kind import InitialWeights, Kind, Normalisation, StepBatch
from isogloss.dictionaries.kinds.optimise import (
    column_sums,
    descend,
    feature_totals,
    ordered_sum,
    share_of_warmup,
)
from isogloss.dictionaries.kinds.resample import resample
from isogloss.dictionaries.kinds.state import (
    SAVED,
    centred_raw_rows,
    centred_rows,
    encode_above,
    export_biases,
    start_tied,
    state_group,
)
from isogloss.dictionaries.kinds.steer import (
    START_SHARE,
    first_threshold,
    start_weight,
    steer,
    steered_weight,
)
from isogloss.errors import InvalidInput
from isogloss.kernels import (
    Codes,
    EntryGradients,
    StepResult,
    decode_loss,
    encode_threshold,
    value_slopes,
)

_FIRST_WEIGHT = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class ReluL1(Kind):
    """A feature fires where its pre-activation is positive, and pays for how strongly it writes.

    ``z = ReLU((x - b_d) W_e^T + b_e)`` and ``x_hat = z W_d + b_d``. With r = x_hat - x over a batch
    of scaled rows, the loss is::

        L = mean |r|^2 / Var + w mean sum_i z_i |w_i| / sqrt(Var)

    with w_i the rows of W_d, whose norms are free, and w the weight: steered at every step to what
    lets ``target_l0`` features fire, or ``l1`` times its linear warm-up. Where several sites are
    reconstructed, |w_i| is the sum over sites of the norms of its parts (Lindsey et al., "Sparse
    Crosscoders", October 2024). The gradient reaches the decoder norms too, so no feature escapes
    the penalty by a longer direction ("Update on how we train SAEs", Circuits Updates, April 2024;
    there b_d is not subtracted before encoding, which is the same function with another b_e). The
    optimiser is exact Adam (0.9, 0.99, 1e-8 / Var). Dead features stay dead unless
    ``resample_every`` is set. On export every decoder row is divided by its norm and the encoder
    multiplied by it, so that codes are lengths in the unit of the raw rows.
    """

    saved: ClassVar[Mapping[str, tuple[str, ...]]] = SAVED
    free_norms: ClassVar[bool] = True

    l1: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Weight of the penalty. It has no unit: where the squared error is not divided by its variance
    and rows have the norm sqrt(width), as in the update, it is ``l1 sqrt(width)``. None: it is
    steered, so that ``target_l0`` features fire on a row."""
    target_l0: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    """Mean number of features a row that the weight of the penalty is steered to, where ``l1`` is
    None. None: 32, or an eighth of the features if that is fewer."""
    sparsity_warmup: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """First share of the steps, over which a penalty of the weight ``l1`` rises linearly from 0."""
    resample_every: Annotated[int, Meta(ge=0)] = 0
    """Steps between resamplings of dead features, at rows with large errors (Bricken et al. 2023);
    0: none."""
    adam: Literal["exact", "lazy"] = "exact"
    """``exact`` moves every feature at every step; ``lazy`` leaves those whose gradient has no term
    in the step as they are, with their moments."""
    clip_norm: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Longest gradient that is used unchanged: the Euclidean norm over all parameters together. A
    longer one is shortened to it. None: 1 / Var; 0: no bound."""

    @property
    def fires(self) -> float:
        """Features that fire on a row, where the penalty is steered: the target."""
        if self.l1 is not None:
            return 32.0
        return min(32.0, self.features / 8) if self.target_l0 is None else self.target_l0

    def check(self) -> None:
        """Raise InvalidInput where the target does not fit the features or the weight.

        Raises:
            InvalidInput: ``target_l0`` is above ``features``, or ``l1`` is given beside it.
        """
        if self.target_l0 is None:
            return
        if self.l1 is not None:
            raise InvalidInput(
                f"l1 is {self.l1} and target_l0 {self.target_l0}: a weight that is given is not "
                "steered; leave one of the two out"
            )
        if self.target_l0 > self.features:
            raise InvalidInput(
                f"target_l0 is {self.target_l0} but features is {self.features}; lower target_l0"
            )

    def start(self, initial: InitialWeights) -> dict[str, Tensor]:
        """Start tied, the decoder bias at the mean row.

        Where the penalty is steered, encoder biases start where a few times the target fire.
        """
        made = start_tied(initial)
        if self.l1 is None:
            made["weights.encoder_bias"] -= first_threshold(START_SHARE * self.fires, self.features)
            made |= start_weight(_FIRST_WEIGHT)
        return made

    @torch.no_grad()
    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        """Take one step; what is summed are the positive entries."""
        weights, rows = state_group(tensors, "weights"), len(batch.rows)
        centred = centred_rows(tensors, batch)
        codes = encode_above(batch, centred, weights.encoder, weights.encoder_bias, 0.0)
        residual = decode_loss(codes, weights.decoder, batch.target, weights.decoder_bias)
        squared_error = ordered_sum(residual.squared_norms) / rows
        downhill = residual.residual * (2 / (rows * batch.variance))
        parts = tuple(batch.parts) or (range(weights.target_width),)
        norms = _norms(weights.decoder, parts)
        price = self._weight(tensors, batch) / batch.variance**0.5
        own = norms[codes.indices.long()]
        penalty = price * ordered_sum(codes.values * own) / rows
        slopes = value_slopes(codes, downhill, weights.decoder) + price / rows * own
        of_bias = feature_totals(codes.with_values(slopes))
        gradients = EntryGradients(
            codes=codes,
            slopes=slopes,
            source=centred,
            downhill=downhill,
            vectors={"encoder_bias": of_bias},
            decoder_bias=column_sums(downhill),
            through=of_bias,
            radial=feature_totals(codes) * (price / rows),
            parts=parts,
        )
        descend(
            tensors, gradients, batch, unit_norm=False, clip_norm=self.clip_norm, adam=self.adam
        )
        if self.l1 is None:
            l0 = len(codes.values) / rows
            steer(tensors, l0, self.fires, batch.step, batch.total_steps)
        if batch.dead is not None and self.resample_every and not batch.step % self.resample_every:
            resample(tensors, batch, centred, residual.squared_norms)
        return StepResult(
            squared_error=squared_error,
            loss=squared_error / batch.variance + penalty,
            aux_loss=0.0,
            fired=torch.bincount(codes.indices, minlength=self.features).to(torch.int32),
            parts={"sparsity": penalty},
            residual=residual.residual,
        )

    def _weight(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> float:
        if self.l1 is None:
            return steered_weight(tensors)
        return self.l1 * share_of_warmup(batch.step, batch.total_steps, self.sparsity_warmup)

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        """Divide biases by the scale, and move the decoder norms into the encoder."""
        made = export_biases(tensors, normalisation)
        norms = made["decoder"].square().sum(1).sqrt()
        norms = torch.where(norms > 0, norms, 1.0)
        made["encoder"].mul_(norms[:, None])
        made["encoder_bias"].mul_(norms)
        made["decoder"].div_(norms[:, None])
        return made

    def encode(self, tensors: Mapping[str, Tensor], rows: Float32[Tensor, "rows width"]) -> Codes:
        """Return the features whose pre-activation is positive, ragged."""
        centred = centred_raw_rows(tensors, rows)
        return encode_threshold(centred, tensors["encoder"], tensors["encoder_bias"], 0.0)


def _norms(decoder: Tensor, parts: Sequence[range]) -> Tensor:
    """Return the sum over parts of the norms of each row's parts."""
    total = decoder.new_zeros(len(decoder))
    for part in parts:
        total = total + decoder[:, part.start : part.stop].square().sum(1).sqrt()
    return total
