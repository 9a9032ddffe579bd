# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportAttributeAccessIssue=false, reportMissingTypeArgument=false
# (triton's interpreter and compiler are untyped, and replaced in place)
"""Count the bytes that Triton kernels, and the torch operations round them, move.

Exact and deterministic. Per kernel, and in all:

* ``l2``: bytes of distinct 32-byte sectors of each memory instruction of one program: what the L2
  cache is asked for. Strided access shows here.
* ``dram``: bytes of distinct sectors of a whole launch: what memory must give with a perfect cache,
  so a lower bound.
* ``torch``: bytes in and out of each torch operation that is not a view, each tensor once.

Atomics count twice (read and write). An access outside of every argument raises. Counts say nothing
of time. Within :func:`isogloss.kernels.testing.interpreter.interpreter` only.
"""

from collections import Counter, defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime import interpreter as runtime

from isogloss.errors import InvalidInput

_SECTOR = 32
_VIEWS = {
    "_unsafe_view",
    "alias",
    "as_strided",
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "expand",
    "lift_fresh",
    "new_empty",
    "permute",
    "select",
    "slice",
    "split",
    "squeeze",
    "t",
    "transpose",
    "unbind",
    "unsqueeze",
    "view",
}


@dataclass(kw_only=True, slots=True)
class KernelTraffic:
    """Bytes that one kernel moved, over all of its launches."""

    launches: int = 0
    """Number of launches."""
    l2: int = 0
    """Bytes asked of the L2 cache."""
    dram: int = 0
    """Bytes moved with a perfect cache."""
    atomics: int = 0
    """Atomic operations, one a lane."""
    longest: int = 0
    """Memory instructions of the program that has most: a program that works long after the others
    shows."""
    by_argument: Counter[str] = field(default_factory=Counter[str])
    """``dram`` by the name of the tensor argument."""


@dataclass(kw_only=True, slots=True)
class Traffic:
    """Bytes counted between entering and leaving :func:`metering`."""

    kernels: defaultdict[str, KernelTraffic] = field(
        default_factory=lambda: defaultdict(KernelTraffic)
    )
    """By name of the kernel."""
    torch_bytes: Counter[str] = field(default_factory=Counter[str])
    """By name of the torch operation."""
    torch_calls: Counter[str] = field(default_factory=Counter[str])
    """How often each torch operation that moves bytes was called: a device launches at least that.
    """

    @property
    def l2(self) -> int:
        """Bytes asked of L2 by all kernels, and moved by torch."""
        return sum(kernel.l2 for kernel in self.kernels.values()) + self.torch_bytes.total()

    @property
    def dram(self) -> int:
        """Bytes moved with a perfect cache by all kernels, and by torch."""
        return sum(kernel.dram for kernel in self.kernels.values()) + self.torch_bytes.total()

    @property
    def launches(self) -> int:
        """Launches of all kernels, and torch operations that move bytes."""
        ours = sum(kernel.launches for kernel in self.kernels.values())
        return ours + self.torch_calls.total()

    @property
    def atomics(self) -> int:
        """Atomic operations of all kernels."""
        return sum(kernel.atomics for kernel in self.kernels.values())


class _Launch:
    """The launch that runs now: its tensors by address, and the sectors it touched."""

    def __init__(self, kernel: KernelTraffic, arguments: Mapping[str, object]) -> None:
        self._kernel = kernel
        self._touched: defaultdict[tuple[str, str], list[NDArray[np.int64]]] = defaultdict(list)
        self._spans: list[tuple[int, int, str]] = []
        for name, argument in arguments.items():
            if isinstance(argument, Tensor):
                storage = argument.untyped_storage()
                start = storage.data_ptr()
                self._spans.append((start, start + storage.nbytes(), name))
        kernel.launches += 1
        self._own = 0

    def begin_program(self) -> None:
        self._own = 0

    def note(self, kind: str, pointers: runtime.TensorHandle, mask: runtime.TensorHandle) -> None:
        self._own += 1
        self._kernel.longest = max(self._kernel.longest, self._own)
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        at, on = np.broadcast_arrays(pointers.data, mask.data)
        at = np.atleast_1d(at)[np.atleast_1d(on).astype(bool)].astype(np.int64)
        if at.size == 0:
            return
        low, high = int(at.min()), int(at.max()) + size
        name = next((n for start, stop, n in self._spans if start <= low and high <= stop), None)
        if name is None:
            raise InvalidInput(
                f"a {kind} of bytes {low:#x} to {high:#x} is outside of every tensor argument"
            )
        sectors = np.unique(np.concatenate((at // _SECTOR, (at + size - 1) // _SECTOR)))
        times = 2 if kind == "atomic" else 1
        self._kernel.l2 += sectors.size * _SECTOR * times
        self._kernel.atomics += at.size if kind == "atomic" else 0
        self._touched[kind, name].append(sectors)

    def finish(self) -> None:
        for (kind, name), sectors in self._touched.items():
            moved = np.unique(np.concatenate(sectors)).size * _SECTOR
            moved *= 2 if kind == "atomic" else 1
            self._kernel.dram += moved
            self._kernel.by_argument[name] += moved


class _TorchTraffic(TorchDispatchMode):
    def __init__(self, traffic: Traffic, launches: list[_Launch]) -> None:
        super().__init__()
        self._traffic, self._launches = traffic, launches

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN204 (torch's own signature)
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not self._launches and name not in _VIEWS:
            sizes: dict[tuple[int, int], int] = {}
            _collect((args, kwargs, out), sizes)
            self._traffic.torch_bytes[name] += sum(sizes.values())
            self._traffic.torch_calls[name] += 1
        return out


def _collect(found: object, sizes: dict[tuple[int, int], int]) -> None:
    if isinstance(found, Tensor):
        sizes[found.data_ptr(), found.numel()] = found.numel() * found.element_size()
    elif isinstance(found, (tuple, list)):
        for part in found:
            _collect(part, sizes)
    elif isinstance(found, dict):
        _collect(list(found.values()), sizes)


@contextmanager
def metering() -> Generator[Traffic]:
    """Count traffic until the block ends; the counts stay readable afterwards."""
    traffic, launches = Traffic(), list[_Launch]()
    builder, call = runtime.InterpreterBuilder, runtime.GridExecutor.__call__
    originals = (
        builder.create_masked_load,
        builder.create_masked_store,
        builder.create_atomic_rmw,
    )
    running = runtime.interpreter_builder
    visit = running.set_grid_idx

    def program(x: int, y: int, z: int) -> None:
        launches[-1].begin_program()
        visit(x, y, z)

    def load(self, pointers, mask, *rest):  # noqa: ANN002 (the interpreter names them)
        launches[-1].note("load", pointers, mask)
        return originals[0](self, pointers, mask, *rest)

    def store(self, pointers, value, mask, *rest):  # noqa: ANN002 (the interpreter names them)
        launches[-1].note("store", pointers, mask)
        return originals[1](self, pointers, value, mask, *rest)

    def atomic(self, operation, pointers, value, mask, *rest):  # noqa: ANN002 (the interpreter names them)
        launches[-1].note("atomic", pointers, mask)
        return originals[2](self, operation, pointers, value, mask, *rest)

    def launch(self, *args, **kwargs) -> None:  # noqa: ANN002, ANN003 (the same)
        named = {**dict(zip(self.arg_names, args, strict=False)), **kwargs}
        launches.append(_Launch(traffic.kernels[self.fn.__name__], named))
        try:
            call(self, *args, **kwargs)
        finally:
            launches.pop().finish()

    running.set_grid_idx = program
    builder.create_masked_load = load
    builder.create_masked_store = store
    builder.create_atomic_rmw = atomic
    runtime.GridExecutor.__call__ = launch
    try:
        with _TorchTraffic(traffic, launches):
            yield traffic
    finally:
        running.set_grid_idx = visit
        builder.create_masked_load = originals[0]
        builder.create_masked_store = originals[1]
        builder.create_atomic_rmw = originals[2]
        runtime.GridExecutor.__call__ = call
