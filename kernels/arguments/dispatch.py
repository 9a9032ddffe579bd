"""Choose the kernels of a call by the device of its tensors.

An operation asks :func:`takes_triton` at every call and goes on in ``gpu.<operation>`` or
``cpu.<operation>``. The packages ``gpu`` and ``cpu`` import such a file when it is first used, so
neither triton nor numba is imported by a process that does not compute there. No other import of
this room is late, apart from the public names in ``kernels/__init__.py``.
"""

from contextvars import ContextVar

from torch import Tensor

from isogloss.errors import InvalidInput

interpreting: ContextVar[bool] = ContextVar("interpreting", default=False)
"""True while CPU tensors go to the Triton kernels, run by Triton's interpreter (``testing``)."""


def takes_triton(tensor: Tensor) -> bool:
    """Tell whether a tensor goes to the Triton kernels (CUDA, ROCm) or to those for the CPU.

    Args:
        tensor: one of the call's tensors.

    Returns:
        True for Triton, False for the CPU.

    Raises:
        InvalidInput: there is no kernel for the tensor's device.
    """
    if tensor.is_cuda or (interpreting.get() and tensor.device.type == "cpu"):
        return True
    if tensor.device.type == "cpu":
        return False
    raise InvalidInput(f"no kernel for device {tensor.device}; move the tensors to cpu or cuda")
