"""Debug mode: checks that must read a device's tensors, and so stop its queue."""

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

    Indices and offsets of codes are looked through before each launch, and weights that are being
    trained, too. On the CPU that is always so. On a device it is not without this, because the
    answer must come back before the launch. ``ISOGLOSS_DEBUG=1`` in the environment does the same
    for the whole process.

    Yields:
        Nothing: the block runs in debug mode.
    """
    token = _entered.set(True)
    try:
        yield
    finally:
        _entered.reset(token)


def in_debug_mode() -> bool:
    """Whether :func:`debugging` was entered, or ``ISOGLOSS_DEBUG`` is set to more than 0."""
    return _entered.get() or os.environ.get(_VARIABLE, "0") not in ("", "0")


def reads_content(tensor: Tensor) -> bool:
    """Whether checks may read what the tensor holds: on the CPU, and in debug mode."""
    return tensor.device.type == "cpu" or in_debug_mode()
