"""What the kernels are timed against: the same work by torch's own operations."""

import torch
from torch import Tensor
from torch.nn import functional


def topk(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """GEMM, ReLU and top-k one after another; the dense pre-activations are written."""
    values, indices = torch.addmm(bias, x, weight.T).relu_().topk(k, dim=1)
    return values, indices


def bag(indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Decode by ``embedding_bag``."""
    return functional.embedding_bag(indices, weight, mode="sum", per_sample_weights=values)


class Step:
    """A training step of a TopK dictionary as eager trainers take it.

    A dense encoder with its top-k, ``embedding_bag`` to decode, gradients by autograd, the
    decoder's projected, Adam fused over all parameters, rows of the decoder normalised.
    """

    def __init__(self, weight: Tensor, k: int) -> None:
        rows = functional.normalize(weight.float())
        self._encoder = rows.clone().requires_grad_()
        self._bias = torch.zeros(len(rows), device=rows.device, requires_grad=True)
        self._decoder = rows.clone().requires_grad_()
        self._offset = torch.zeros(rows.shape[1], device=rows.device, requires_grad=True)
        parameters = [self._encoder, self._bias, self._decoder, self._offset]
        self._adam = torch.optim.Adam(parameters, lr=1e-4, fused=rows.is_cuda)
        self._k = k

    def __call__(self, x: Tensor) -> None:
        """Take one step on rows of float32."""
        pre = torch.addmm(self._bias, x - self._offset, self._encoder.T).relu()
        values, indices = pre.topk(self._k, dim=1)
        left = bag(indices, values, self._decoder) + self._offset - x
        left.square().sum(1).mean().div(x.shape[1]).backward()
        with torch.no_grad():
            gradient, rows = self._decoder.grad, self._decoder
            if gradient is not None:
                gradient -= (gradient * rows).sum(1, keepdim=True) * rows
            self._adam.step()
            rows.copy_(functional.normalize(rows))
        self._adam.zero_grad(set_to_none=True)
