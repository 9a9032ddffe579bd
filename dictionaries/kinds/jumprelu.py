"""JumpReLU: a learned threshold for each feature (Rajamanoharan et al. 2024, arXiv 2407.14435)."""

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
from isogloss.dictionaries.kinds.revive import revive
from isogloss.dictionaries.kinds.state import (
    SAVED,
    centred_raw_rows,
    centred_rows,
    encode_above,
    export_biases,
    start_tied,
    state_group,
)
from isogloss.dictionaries.kinds.steer import START_SHARE, first_threshold
from isogloss.errors import InvalidInput
from isogloss.kernels import (
    Codes,
    EncoderScreen,
    EntryGradients,
    StepResult,
    decode_loss,
    encode_threshold,
    screen_threshold,
    value_slopes,
)

_COEFFICIENTS = {"target_l0": 0.3, "l0": 0.05, "tanh": 0.05}


class _Penalty(NamedTuple):
    """A penalty of one batch, and its gradients at every entry."""

    value: float
    to_value: Tensor
    """To the value z of the entry."""
    to_step: Tensor
    """To the step function H(pre - theta) of the entry."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JumpReLU(Kind):
    """A feature fires where its pre-activation exceeds its own, learned threshold.

    ``pre = (x - b_d) W_e^T + b_e``, ``theta = exp(t)``, ``z = pre H(pre - theta)`` with the step
    function H, and ``x_hat = z W_d + b_d``. Over a batch of scaled rows, r = x_hat - x::

        L = mean |r|^2 / Var + w S + P
        S = mean L0                            "l0", L0 = sum_i H(pre_i - theta_i)
        S = (mean L0 / target_l0 - 1)^2        "target_l0"
        S = mean sum_i tanh(c z_i)             "tanh" (Anthropic, January 2025 update)
        P = pre_act mean sum_i ReLU(theta_i - pre_i), over the dead features i (same update)

    with w the coefficient times its warm-up. H has no useful derivative to theta; in its place
    stands a rectangle of the width of the bandwidth e (appendix of the paper)::

        d z / d theta = -(theta / e) K       d H / d theta = -(1 / e) K
        K = 1 where |pre - theta| < e / 2 and pre > 0, else 0

    To pre, z has the derivative H and H has 0. Bandwidth, thresholds and penalties are in units of
    the scaled rows, whose total variance is the width; the paper's rows have norm 1, so its
    bandwidth 0.001 is ``0.001 sqrt(width)`` here. Decoder rows keep norm 1 (gradients projected),
    so the decoder norms by which the update multiplies z are 1. The optimiser is exact Adam (0.9,
    0.99, 1e-8 / Var).
    """

    saved: ClassVar[Mapping[str, tuple[str, ...]]] = {**SAVED, "threshold": ("features",)}

    sparsity: Literal["target_l0", "l0", "tanh"] = "target_l0"
    """Penalty: the squared distance of the mean L0 from a target, L0, or a tanh of the values."""
    target_l0: Annotated[float, Meta(gt=0, le=1e9)] = 32.0
    """Mean number of features a row that the penalty "target_l0" aims at."""
    coefficient: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Weight of the penalty; None: 0.3 for "target_l0", 0.05 for "l0" and "tanh", which suits a few
    features a row: lower it for more."""
    tanh_scale: Annotated[float, Meta(gt=0, le=1e9)] = 1.0
    """Factor c before the values inside tanh."""
    threshold: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    """Threshold of every feature at the start, in units of scaled rows. None: the one at which
    four times as many features fire on a row as are meant to, if pre-activations are standard
    normal, which those of random directions nearly are. From a higher one many features die and L0
    stays below the target; from a much lower one half of the features fire at first, and a step
    takes many times as long."""
    bandwidth: Annotated[float, Meta(gt=0, le=1e9)] = 1.0
    """Width of the rectangle that stands for the derivative of the step, in units of scaled rows.
    """
    pre_act: Annotated[float, Meta(ge=0, le=1e9)] = 3e-6
    """Weight of the penalty that brings dead features back; 0: none."""
    sparsity_warmup: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """First share of the steps, over which the penalty rises linearly from 0."""
    adam: Literal["exact", "lazy"] = "exact"
    """``exact`` moves every feature at every step; ``lazy`` leaves those whose gradient has no term
    in the step as they are, with their moments."""
    clip_norm: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    """Longest gradient that is used unchanged: the Euclidean norm over all parameters together,
    after the decoder's projection. A longer one is shortened to it. None: 1 / Var; 0: no bound."""

    @property
    def fires(self) -> float:
        """Features that fire on a row: the target, where there is one."""
        return self.target_l0 if self.sparsity == "target_l0" else 32.0

    def check(self) -> None:
        """Raise InvalidInput where the target is above the number of features.

        Raises:
            InvalidInput: ``target_l0`` is above ``features``.
        """
        if self.sparsity == "target_l0" and self.target_l0 > self.features:
            raise InvalidInput(
                f"target_l0 is {self.target_l0} but features is {self.features}; lower target_l0"
            )

    def start(self, initial: InitialWeights) -> dict[str, Tensor]:
        """Start tied, with equal thresholds, kept as logarithms."""
        first = self.threshold
        if first is None:
            first = first_threshold(START_SHARE * self.fires, self.features)
        threshold = torch.full((self.features,), first).log()
        return start_tied(initial, {"log_threshold": threshold})

    @torch.no_grad()
    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        """Take one step; what is summed are the entries above ``theta - bandwidth / 2``."""
        weights, rows = state_group(tensors, "weights"), len(batch.rows)
        theta = _exp(tensors["weights.log_threshold"])
        centred = centred_rows(tensors, batch)
        lowest = (theta - self.bandwidth / 2).clamp(min=0.0)
        near = encode_above(batch, centred, weights.encoder, weights.encoder_bias, lowest)
        limits = theta[near.indices.long()]
        fires = near.values > limits
        codes = near.with_values(torch.where(fires, near.values, 0.0))
        residual = decode_loss(codes, weights.decoder, batch.target, weights.decoder_bias)
        squared_error = ordered_sum(residual.squared_norms) / rows
        downhill = residual.residual * (2 / (rows * batch.variance))
        penalty = self._penalty(codes, fires, batch)
        slopes = value_slopes(near, downhill, weights.decoder) + penalty.to_value
        inside = (near.values - limits).abs() < self.bandwidth / 2
        to_theta = -(limits * slopes + penalty.to_step) / self.bandwidth
        of_threshold = feature_totals(near.with_values(torch.where(inside, to_theta, 0.0)))
        active = near.with_values(torch.where(fires, slopes, 0.0))
        of_bias = feature_totals(active)
        revived = revive(batch, centred, weights.encoder, weights.encoder_bias, theta, self.pre_act)
        if revived.features is not None:
            of_bias[revived.features] += revived.totals
            of_threshold[revived.features] -= revived.totals
        gradients = EntryGradients(
            codes=codes,
            slopes=active.values,
            source=centred,
            downhill=downhill,
            vectors={"encoder_bias": of_bias, "log_threshold": of_threshold * theta},
            decoder_bias=column_sums(downhill),
            through=of_bias,
            more_features=revived.features,
            more_rows=revived.rows,
        )
        descend(tensors, gradients, batch, unit_norm=True, clip_norm=self.clip_norm, adam=self.adam)
        fired = torch.bincount(near.indices[fires], minlength=self.features).to(torch.int32)
        parts = {"sparsity": penalty.value, "pre_act": revived.value}
        return StepResult(
            squared_error=squared_error,
            loss=squared_error / batch.variance + sum(parts.values()),
            aux_loss=0.0,
            fired=fired,
            parts=parts,
            residual=residual.residual,
        )

    def _penalty(self, codes: Codes, fires: Tensor, batch: StepBatch) -> _Penalty:
        """Return w S, and its gradients to z and H of every entry."""
        rows, nothing = codes.rows, torch.zeros_like(codes.values)
        own = self.coefficient
        weight = _COEFFICIENTS[self.sparsity] if own is None else own
        weight *= share_of_warmup(batch.step, batch.total_steps, self.sparsity_warmup)
        if self.sparsity == "tanh":
            # in float64: the last bits of torch's float32 tanh depend on where a thread begins
            bent = torch.tanh(self.tanh_scale * codes.values.double())
            slope = weight * self.tanh_scale / rows * (1 - bent.square())
            return _Penalty(weight * ordered_sum(bent) / rows, slope.float(), nothing)
        l0 = int(fires.sum()) / rows
        if self.sparsity == "l0":
            return _Penalty(weight * l0, nothing, nothing + weight / rows)
        over = l0 / self.target_l0 - 1
        slope = 2 * weight * over / self.target_l0 / rows
        return _Penalty(weight * over**2, nothing, nothing + slope)

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        """Divide biases and thresholds by the scale: all pre-activations are of raw rows then."""
        threshold = _exp(tensors["weights.log_threshold"]) / normalisation.scale
        return {**export_biases(tensors, normalisation), "threshold": threshold}

    def encode(self, tensors: Mapping[str, Tensor], rows: Float32[Tensor, "rows width"]) -> Codes:
        """Return the features above their thresholds, ragged."""
        centred = centred_raw_rows(tensors, rows)
        return encode_threshold(
            centred, tensors["encoder"], tensors["encoder_bias"], tensors["threshold"]
        )

    def may_fire(
        self,
        tensors: Mapping[str, Tensor],
        rows: Float32[Tensor, "rows width"],
        screen: EncoderScreen,
    ) -> Tensor | None:
        """Return the features that may lie above their thresholds on some row."""
        return screen_threshold(centred_raw_rows(tensors, rows), screen, tensors["threshold"])


def _exp(logarithms: Tensor) -> Tensor:
    """Return exp, float32; by float64, whose last bits do not show after rounding."""
    return logarithms.double().exp().float()
