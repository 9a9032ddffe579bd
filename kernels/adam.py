"""One step of Adam on one parameter, in place."""

from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import cpu, reference
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton


def adam_step(
    parameter: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None:
    """Take one step of exact Adam (Kingma and Ba 2014, arXiv:1412.6980), in place.

    ``first`` and ``second`` are the running means of the gradient and of its square; they and
    ``parameter`` are overwritten. On the CPU this is the optimiser of the fused training step, so
    the bits do not depend on the number of threads; torch's own additions with a factor round
    differently at the ends of what each thread is given.

    Args:
        parameter: float32, any shape, contiguous.
        gradient: shaped as ``parameter``, float32.
        first: shaped as ``parameter``, float32, contiguous.
        second: shaped as ``parameter``, float32, contiguous.
        step: number of this step, from 1.
        learning_rate: step size.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        epsilon: added to the root of the second moment.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: ``step`` is below 1.
    """
    if step < 1:
        raise InvalidInput(f"step is {step}; steps count from 1")
    others = {"gradient": gradient, "first": first, "second": second}
    for name, tensor in others.items():
        if tensor.shape != parameter.shape or tensor.dtype != parameter.dtype:
            raise ShapeError(
                f"{name} is {tensor.dtype} {tuple(tensor.shape)}; wanted {parameter.dtype} "
                f"{tuple(parameter.shape)}, as the parameter"
            )
    checks.one_device(parameter=parameter, **others)
    checks.contiguous(parameter=parameter, first=first, second=second)
    constants = reference.AdamSettings(
        learning_rate=learning_rate, beta1=beta1, beta2=beta2, epsilon=epsilon
    )
    path = reference.adam if takes_triton(parameter) else cpu.adam.adam_step
    path(parameter.detach(), first, second, gradient.detach(), constants, step)
    checks.stepped(parameter)
