"""Debug mode: checks that read a device's tensors, for which its queue must be waited for."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_VARIABLE = "ISOGLOSS_DEBUG"
_entered: ContextVar[bool] = ContextVar("entered", default=False)


@contextmanager
def debugging() -> Generator[None]:
    """Check the content of tensors on any device, within the block.

    Before each launch, indices and offsets of codes are checked against their range, and weights
    that are being trained are searched for NaN and infinity. On the CPU that always happens. On a
    device it happens in debug mode only, because the launch must wait for the answer.
    ``ISOGLOSS_DEBUG=1`` in the environment sets debug mode for the whole process.

    Yields:
        Nothing: the block runs in debug mode.
    """
    token = _entered.set(True)
    try:
        yield
    finally:
        _entered.reset(token)


def in_debug_mode() -> bool:
    """Tell whether :func:`debugging` was entered, or ``ISOGLOSS_DEBUG`` is set to more than 0."""
    return _entered.get() or os.environ.get(_VARIABLE, "0") not in ("", "0")


def reads_content(tensor: Tensor) -> bool:
    """Tell whether checks may read what the tensor holds: on the CPU, and in debug mode."""
    return tensor.device.type == "cpu" or in_debug_mode()
