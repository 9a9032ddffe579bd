# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportAttributeAccessIssue=false, reportMissingTypeArgument=false
# (triton's interpreter is untyped, and replaced in place)
"""Which variants of kernels a device would compile for the calls of a block.

Triton compiles a kernel anew for each set of constants, of types, and of what it assumes of whole
numbers and pointers: whether a number is 1, whether 16 divides it. Seconds each, so a test or a
first call on a device waits for them. Within
:func:`isogloss.kernels.testing.interpreter.interpreter` only.
"""

from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager

from torch import Tensor
from triton.runtime import interpreter as runtime

Variants = defaultdict[str, set[tuple[object, ...]]]
"""By the kernel's name: what each of its variants is compiled for."""


@contextmanager
def compiling() -> Generator[Variants]:
    """Collect the variants that the launches of the block would compile.

    Yields:
        The variants, which grow while the block runs.
    """
    found: Variants = defaultdict(set)
    run = runtime.InterpretedFunction.run

    def recorded(self, *args, grid, warmup, **kwargs):  # noqa: ANN002, ANN003 (the interpreter names them)
        named = {**dict(zip(self.arg_names, args, strict=False)), **kwargs}
        free = set(self.kwargs.get("do_not_specialize") or ())
        constants = {name for name in named if name.isupper() or name not in self.arg_names}
        key = tuple((name, _kind(named[name], name in free, name in constants)) for name in named)
        found[self.fn.__name__].add(key)
        return run(self, *args, grid=grid, warmup=warmup, **kwargs)

    runtime.InterpretedFunction.run = recorded
    try:
        yield found
    finally:
        runtime.InterpretedFunction.run = run


def _kind(value: object, is_free: bool, is_constant: bool) -> object:
    """What Triton looks at in an argument: all of a constant, and little of the others."""
    if is_constant:
        return value
    if isinstance(value, Tensor):
        return str(value.dtype), value.data_ptr() % 16 == 0
    if not isinstance(value, int):
        return type(value)
    wide = abs(value) >= 1 << 31
    return wide if is_free else (wide, value == 1, value % 16 == 0)
