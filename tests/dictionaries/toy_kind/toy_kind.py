"""A kind of dictionary from another package: ReLU with an L1 penalty, in dense torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from msgspec import Meta
from torch import Tensor

from isogloss.dictionaries import InitialWeights, Kind, Normalisation, StepBatch
from isogloss.kernels import Codes, StepResult


@dataclass(frozen=True, kw_only=True, slots=True)
class ReluL1(Kind):
    """``z = ReLU(x W_e^T + b_e)``; ``L = mean |x_hat - x|^2 / Var + l1 mean sum_i z_i |w_i|``."""

    saved: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "encoder": ("features", "width"),
        "encoder_bias": ("features",),
        "decoder": ("features", "width"),
        "decoder_bias": ("width",),
    }
    l1: Annotated[float, Meta(ge=0)] = 0.02
    """Weight of the penalty."""

    def start(self, initial: InitialWeights) -> dict[str, Tensor]:
        bias = initial.target_mean.to(torch.float32)
        start = initial.encoder.clone(), torch.zeros(self.features), initial.decoder.clone(), bias
        return dict(zip(self.saved, start, strict=True))

    def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
        live = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
        codes = (batch.rows @ live["encoder"].T + live["encoder_bias"]).relu()
        residual = codes @ live["decoder"] + live["decoder_bias"] - batch.target
        error = residual.square().sum(1).mean()
        penalty = self.l1 * (codes @ live["decoder"].norm(dim=1)).mean()
        loss = error / batch.variance + penalty
        gradients = torch.autograd.grad(loss, list(live.values()))
        for tensor, gradient in zip(tensors.values(), gradients, strict=True):
            tensor -= batch.learning_rate * gradient.sign()
        fired = (codes > 0).sum(0, dtype=torch.int32)
        return StepResult(squared_error=error.item(), loss=loss.item(), aux_loss=0.0, fired=fired)

    def export(
        self, tensors: Mapping[str, Tensor], normalisation: Normalisation
    ) -> dict[str, Tensor]:
        factors = {
            name: normalisation.scale if name.endswith("bias") else 1.0 for name in self.saved
        }
        return {name: tensors[name] / factor for name, factor in factors.items()}

    def encode(self, tensors: Mapping[str, Tensor], rows: Tensor) -> Codes:
        dense = (rows @ tensors["encoder"].T + tensors["encoder_bias"]).relu()
        most = max(1, int((dense > 0).sum(1).max())) if len(rows) else 1
        values, indices = dense.topk(most, dim=1)
        return Codes(values=values, indices=indices.int(), features=self.features)
