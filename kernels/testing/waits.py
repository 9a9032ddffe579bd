# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportAttributeAccessIssue=false, reportMissingTypeArgument=false
# (triton's interpreter is untyped, and replaced in place)
"""Which calls can be captured in a graph: those that neither wait for the device nor copy to it.

A call that asks a tensor for a number, or whose result has a size that the data decide, waits for
the device; a tensor made from numbers of the host is copied. Both forbid capture. The calls run in
the interpreter on CPU tensors, and what torch is asked meanwhile is looked at; searches of weights
and of indices, which on a device are made once or in debug mode, are left out. Within
:func:`isogloss.kernels.testing.interpreter.interpreter` only.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter as runtime

from isogloss.kernels.arguments import checks
from isogloss.kernels.values import codes

_WAITS = {
    "_local_scalar_dense": "asks for a number",
    "nonzero": "a size that the data decide",
    "masked_select": "a size that the data decide",
    "_unique2": "a size that the data decide",
    "unique_dim": "a size that the data decide",
    "bincount": "a size that the data decide",
    "equal": "asks for a number",
    "lift_fresh": "a tensor from numbers of the host",
}

_READS = ("tolist", "numpy", "cpu")
"""Methods that bring content to the host without asking torch's dispatcher for a number."""


class _Watch(TorchDispatchMode):
    def __init__(self, found: Counter[str], running: list[None]) -> None:
        super().__init__()
        self._found, self._running = found, running

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN204 (torch's own signature)
        name = func.overloadpacket.__name__
        why = _WAITS.get(name)
        if name in ("index", "index_put") and len(args) > 1:
            masks = [one for one in args[1] if isinstance(one, Tensor) and one.dtype == torch.bool]
            why = "a size that the data decide" if masks else None
        if name == "repeat_interleave" and (kwargs or {}).get("output_size") is None:
            why = "a size that the data decide"
        if why is not None and not self._running:
            self._found[why] += 1
        return func(*args, **(kwargs or {}))


def _reads_nothing(_: Tensor) -> bool:
    """Stand in for ``reads_content``, as it answers on a device."""
    return False


@contextmanager
def waiting() -> Generator[Counter[str]]:
    """Count what forbids to capture the calls of the block, by its reason.

    Yields:
        The counts, which grow while the block runs.
    """
    found, running = Counter[str](), list[None]()
    launch, reads = runtime.GridExecutor.__call__, checks.reads_content

    def launched(self, *args, **kwargs) -> None:  # noqa: ANN002, ANN003 (the interpreter names them)
        running.append(None)
        try:
            launch(self, *args, **kwargs)
        finally:
            running.pop()

    reading = {name: getattr(Tensor, name) for name in _READS}

    def counted(name: str):
        def read(self: Tensor, *args: object, **options: object) -> object:
            if not running:
                found["asks for a number"] += 1
            return reading[name](self, *args, **options)

        return read

    for name in _READS:
        setattr(Tensor, name, counted(name))
    runtime.GridExecutor.__call__ = launched
    checks.reads_content = codes.reads_content = _reads_nothing
    try:
        with _Watch(found, running):
            yield found
    finally:
        for name, method in reading.items():
            setattr(Tensor, name, method)
        runtime.GridExecutor.__call__ = launch
        checks.reads_content = codes.reads_content = reads
