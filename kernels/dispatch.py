"""Which implementation a call takes, by its tensors' device."""

from contextvars import ContextVar

from torch import Tensor

from isogloss.errors import InvalidInput

interpreting: ContextVar[bool] = ContextVar("interpreting", default=False)
"""True while CPU tensors go to the Triton kernels, run by Triton's interpreter (``testing``)."""


def takes_triton(tensor: Tensor) -> bool:
    """Whether a tensor goes to the Triton kernels (CUDA, ROCm) or to those for the CPU.

    Raises:
        InvalidInput: there is no kernel for the tensor's device.
    """
    if tensor.is_cuda or (interpreting.get() and tensor.device.type == "cpu"):
        return True
    if tensor.device.type == "cpu":
        return False
    raise InvalidInput(f"no kernel for device {tensor.device}; move the tensors to cpu or cuda")
