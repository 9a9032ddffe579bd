"""Gated: one path decides which features fire, another how strongly (arXiv 2404.16014)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

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
from isogloss.dictionaries.kinds.revive import revive
from isogloss.dictionaries.kinds.state import (
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

_FIRST_WEIGHT = 0.3


class _Entries(NamedTuple):
    """What is known of every entry whose gate is open."""

    gates: Codes
    """Gate pre-activations, all positive."""
    shared: Tensor
    """What both paths share, ``(x - b_d) W_g^T``."""
    gain: Tensor
    """``exp(r_mag)`` of the entry's feature."""
    magnitude: Tensor
    """Pre-activation of the magnitude."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gated(Kind):
    """A gate says which features fire, and a magnitude that no penalty shrinks says how strongly.

    Both read the same directions (Rajamanoharan et al. 2024, arXiv 2404.16014)::

        s = (x - b_d) W_g^T,   g = s + b_gate,   m = exp(r_mag) s + b_mag
        z = H(g) ReLU(m),      x_hat = z W_d + b_d,      x_gate = ReLU(g) W_d' + b_d'

    with the step function H, and W_d', b_d' frozen copies of W_d and b_d: constants to the
    gradient. Over a batch of scaled rows the loss is::

        L = mean |x_hat - x|^2 / Var + w mean sum_i ReLU(g_i) / sqrt(Var)
            + mean |x_gate - x|^2 / Var + P
        P = pre_act mean sum_i ReLU(-g_i), over the dead features i

    with w the weight: steered at every step to what lets ``target_l0`` features fire, or ``l1``
    times its linear warm-up. The gate learns from the last two terms alone, since H has no
    derivative; the third makes its values reconstruct. Decoder rows keep norm 1, and their
    gradients are projected. The optimiser is exact Adam (0.9, 0.99, 1e-8 / Var). A gate that is
    closed on all rows gets no gradient but that of P, as in JumpReLU (Anthropic, January 2025
    update; not of the paper). ``encoder`` is W_g, ``encoder_bias`` b_gate, ``log_gain``
    r_mag, ``magnitude_bias`` b_mag.
    """

    saved: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "encoder": ("features", "width"),
        "encoder_bias": ("features",),
        "log_gain": ("features",),
        "magnitude_bias": ("features",),
        "decoder": ("features", "target_width"),
        "decoder_bias": ("target_width",),
    }

    l1: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Weight of the penalty on the gates. It has no unit: where the squared error is not divided by
    its variance and rows have the norm sqrt(width), it is ``l1 sqrt(width)``. It costs little
    error, because magnitudes make up for gates that shrink. None: it is steered, so that
    ``target_l0`` features fire on a row."""
    target_l0: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    """Mean number of features a row that the weight of the penalty is steered to, where ``l1`` is
    None. None: 32, or an eighth of the features if that is fewer."""
    sparsity_warmup: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """First share of the steps, over which a penalty of the weight ``l1`` rises linearly from 0."""
    resample_every: Annotated[int, Meta(ge=0)] = 0
    """Steps between resamplings of dead features, at rows with large errors (Bricken et al. 2023);
    0: none."""
    pre_act: Annotated[float, Meta(ge=0, le=1e9)] = 1e-4
    """Weight of the penalty that brings dead features back; 0: none. MiniLM-L6, layer 2, 1,024
    features, 152 steps: 1.0 % dead, 8.0 % without, FVU the same."""
    adam: Literal["exact", "lazy"] = "exact"
    """``exact`` moves every feature at every step; ``lazy`` leaves those whose gradient has no term
    in the step as they are, with their moments."""
    clip_norm: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Longest gradient that is used unchanged: the Euclidean norm over all parameters together,
    after the decoder's projection. A longer one is shortened to it. None: 1 / Var; 0: no bound."""

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
        """Start tied, both paths equal, the decoder bias at the mean row.

        Where the penalty is steered, gates start where a few times the target fire.
        """
        nothing = initial.decoder.new_zeros(self.features)
        made = start_tied(initial, {"log_gain": nothing, "magnitude_bias": nothing})
        if self.l1 is None:
            made["weights.encoder_bias"] -= first_threshold(START_SHARE * self.fires, self.features)
            made |= start_weight(_FIRST_WEIGHT)
        return made

    @torch.no_grad()
    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        """Take one step; what is summed are the entries whose gate is open."""
        weights, rows = state_group(tensors, "weights"), len(batch.rows)
        centred = centred_rows(tensors, batch)
        own = {name: tensors[f"weights.{name}"] for name in self.saved}
        gates = encode_above(batch, centred, weights.encoder, weights.encoder_bias, 0.0)
        found = _entries(gates, own)
        codes = found.gates.with_values(found.magnitude.clamp(min=0.0))
        factor = 2 / (rows * batch.variance)
        main = decode_loss(codes, weights.decoder, batch.target, weights.decoder_bias)
        gate = decode_loss(found.gates, weights.decoder, batch.target, weights.decoder_bias)
        downhill, gate_downhill = main.residual * factor, gate.residual * factor
        price = self._weight(tensors, batch) / batch.variance**0.5
        slopes = value_slopes(codes, downhill, weights.decoder)
        to_magnitude = torch.where(found.magnitude > 0, slopes, 0.0)
        to_gate = value_slopes(found.gates, gate_downhill, weights.decoder) + price / rows
        to_shared = to_gate + to_magnitude * found.gain
        of_gate, through = (feature_totals(codes.with_values(one)) for one in (to_gate, to_shared))
        revived = revive(batch, centred, weights.encoder, weights.encoder_bias, 0.0, self.pre_act)
        if revived.features is not None:
            of_gate[revived.features] += revived.totals
            through[revived.features] += revived.totals
        gradients = EntryGradients(
            codes=codes,
            slopes=to_shared,
            source=centred,
            downhill=downhill,
            vectors={
                "encoder_bias": of_gate,
                "log_gain": feature_totals(
                    codes.with_values(to_magnitude * found.gain * found.shared)
                ),
                "magnitude_bias": feature_totals(codes.with_values(to_magnitude)),
            },
            decoder_bias=column_sums(downhill),
            through=through,
            more_features=revived.features,
            more_rows=revived.rows,
        )
        descend(tensors, gradients, batch, unit_norm=True, clip_norm=self.clip_norm, adam=self.adam)
        if batch.dead is not None and self.resample_every and not batch.step % self.resample_every:
            resample(tensors, batch, centred, main.squared_norms)
        fires = codes.indices[codes.values > 0]
        if self.l1 is None:
            l0 = len(fires) / rows
            steer(tensors, l0, self.fires, batch.step, batch.total_steps)
        squared_error = ordered_sum(main.squared_norms) / rows
        parts = {
            "sparsity": price * ordered_sum(found.gates.values) / rows,
            "gate_error": ordered_sum(gate.squared_norms) / rows / batch.variance,
            "pre_act": revived.value,
        }
        return StepResult(
            squared_error=squared_error,
            loss=squared_error / batch.variance + sum(parts.values()),
            aux_loss=0.0,
            fired=torch.bincount(fires, minlength=self.features).to(torch.int32),
            parts=parts,
            residual=main.residual,
        )

    def _weight(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> float:
        if self.l1 is None:
            return steered_weight(tensors)
        return self.l1 * share_of_warmup(batch.step, batch.total_steps, self.sparsity_warmup)

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        """Divide all biases by the scale; gains and directions have no unit."""
        bias = tensors["weights.magnitude_bias"] / normalisation.scale
        return {
            **export_biases(tensors, normalisation),
            "log_gain": tensors["weights.log_gain"].clone(),
            "magnitude_bias": bias,
        }

    def encode(self, tensors: Mapping[str, Tensor], rows: Float32[Tensor, "rows width"]) -> Codes:
        """Return the features whose gate is open and whose magnitude is positive, ragged."""
        centred = centred_raw_rows(tensors, rows)
        gates = encode_threshold(centred, tensors["encoder"], tensors["encoder_bias"], 0.0)
        found = _entries(gates, tensors)
        return found.gates.with_values(found.magnitude.clamp(min=0.0)).to_ragged()


def _entries(gates: Codes, tensors: Mapping[str, Tensor]) -> _Entries:
    """Return both pre-activations at the open gates."""
    features = gates.indices.long()
    # in float64: the last bits of torch's float32 exp depend on where a thread begins
    gain = tensors["log_gain"].double().exp().float()[features]
    shared = gates.values - tensors["encoder_bias"][features]
    magnitude = gain * shared + tensors["magnitude_bias"][features]
    return _Entries(gates, shared, gain, magnitude)
