# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportAttributeAccessIssue=false, reportMissingTypeArgument=false, reportCallIssue=false, reportArgumentType=false
# (triton's interpreter and compiler are untyped, and replaced in place)
"""Triton's interpreter as a test bed: CPU tensors run through the Triton kernels."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from typing import ClassVar, Protocol

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter as runtime

from isogloss.errors import InvalidInput
from isogloss.kernels.arguments.dispatch import interpreting

_OLDEST = (3, 9)
"""The version of triton whose interpreter is mended."""


class _Scope(Protocol):
    def restore(self) -> None: ...


@contextmanager
def interpreter() -> Generator[None]:
    """Send CPU tensors to the Triton kernels, run by Triton's interpreter.

    Five faults of Triton 3.9 are repaired meanwhile: ``tl.dot`` of bfloat16 multiplied the bit
    patterns; float32 became bfloat16 by cutting bits, where devices round to nearest even; a scalar
    condition, spread over a block, became a float; the least of pairs took the place of the first
    for the second of the pair; and each call of a nested jit function patched the whole language
    again (40 to 60 % of the time). ``tl.topk`` of integers, a bitonic network of
    Triton's library, becomes one sort: it was four fifths of what was left. The shapes of tensors
    and numpy's name of a dtype are kept instead of built anew for each value (a sixth of the rest).

    Yields:
        Nothing: the block runs with CPU tensors sent to Triton.

    Raises:
        InvalidInput: ``TRITON_INTERPRET=1`` was not in the environment when triton was imported, or
            triton is older than 3.9, whose interpreter fails with numpy 2.4.
    """
    if not triton.knobs.runtime.interpret:
        raise InvalidInput(
            "triton was imported without TRITON_INTERPRET=1; set it before triton's first import"
        )
    if tuple(map(int, triton.__version__.split(".")[:2])) < _OLDEST:
        raise InvalidInput(
            f"triton is {triton.__version__}; its interpreter is mended here from 3.9 on (kernels "
            "compile with 3.4 and newer: pytest -m gpu and make device do without it)"
        )
    builder = runtime.InterpreterBuilder
    dot, splat, patch = builder.create_dot, builder.create_splat, runtime._patch_lang
    depth: list[_Scope] = []

    class Launch:
        """The language stays patched until the outermost launch ends."""

        def __init__(self, scope: _Scope | None) -> None:
            self._scope = scope

        def restore(self) -> None:
            if self._scope is not None:
                depth.clear()
                self._scope.restore()

    def patch_once(function: Callable[..., object]) -> Launch:
        if depth:
            return Launch(None)
        depth.append(patch(_Everything))
        return Launch(depth[0])

    cast = builder.cast_impl
    builder.create_dot, builder.create_splat = _widened_dot, _splat

    def rounded(
        self: runtime.InterpreterBuilder, source: runtime.TensorHandle, to: tl.dtype
    ) -> runtime.TensorHandle:
        kinds = (source.dtype.scalar, to.scalar)
        if kinds != (tl.float32, tl.bfloat16):
            return cast(self, source, to)
        return runtime.TensorHandle(_as_bfloat16(source.data), tl.bfloat16)

    builder.cast_impl = rounded
    topk, tl.topk = tl.topk, sorted_topk
    reduced = runtime.ReduceOps.apply_impl
    runtime.ReduceOps.apply_impl = _least_pairs(reduced)
    runtime._patch_lang = patch_once
    numpy_dtype, describe = runtime._get_np_dtype, tl.tensor.__init__
    runtime._get_np_dtype, tl.tensor.__init__ = _remembered(numpy_dtype), _describe
    token = interpreting.set(True)
    try:
        with np.errstate(all="ignore"):  # NaN and inf are data here
            yield
    finally:
        interpreting.reset(token)
        builder.create_dot, builder.create_splat = dot, splat
        builder.cast_impl = cast
        tl.topk = topk
        runtime.ReduceOps.apply_impl = reduced
        runtime._patch_lang = patch
        runtime._get_np_dtype, tl.tensor.__init__ = numpy_dtype, describe


def sorted_topk(x: tl.tensor, k: int | tl.constexpr) -> tl.tensor:
    """``tl.topk`` of a block of integers along its last axis: the ``k`` largest, descending."""
    if not x.dtype.is_int():
        raise InvalidInput(f"tl.topk of {x.dtype}; the interpreter here sorts integers")
    count = int(k.value if isinstance(k, tl.constexpr) else k)
    best = np.sort(x.handle.data, axis=-1)[..., ::-1][..., :count].copy()
    return tl.tensor(
        runtime.TensorHandle(best, x.dtype), tl.block_type(x.dtype, [*x.shape[:-1], count])
    )


_Reduction = Callable[[runtime.ReduceOps, tuple[tl.tensor, ...]], object]


def _least_pairs(apply: _Reduction) -> _Reduction:
    """``apply``, but the least of integer pairs is by the first, then by the second."""

    def found(self: runtime.ReduceOps, pairs: tuple[tl.tensor, ...]) -> object:
        least = self.combine_fn is tl.standard._argmin_combine_tie_break_left
        if not least or len(pairs) != 2 or not pairs[0].dtype.is_int():
            return apply(self, pairs)
        first, second = (part.handle.data for part in pairs)
        low = first.min(axis=self.axis, keepdims=True)
        last = np.iinfo(second.dtype).max
        where = np.where(first == low, second, last).min(axis=self.axis, keepdims=self.keep_dims)
        low = low if self.keep_dims else low.squeeze(self.axis)
        return tuple(
            self.to_tensor(data, part.dtype) for data, part in zip((low, where), pairs, strict=True)
        )

    return found


def _remembered(numpy_dtype: Callable[[tl.dtype], np.dtype]) -> Callable[[tl.dtype], np.dtype]:
    """``numpy_dtype``, which is asked once for each element type."""
    known: dict[str, np.dtype] = {}

    def found(kind: tl.dtype) -> np.dtype:
        element = kind.element_ty if isinstance(kind, tl.block_type) else kind
        if element.name not in known:
            known[element.name] = numpy_dtype(element)
        return known[element.name]

    return found


@cache
def _shape_of(sizes: tuple[int, ...]) -> tuple[tl.constexpr, tl.tuple]:
    """Number of elements and shape, as a tensor of the language holds them."""
    return tl.constexpr(math.prod(sizes)), tl.tuple([tl.constexpr(size) for size in sizes])


def _describe(self: tl.tensor, handle: runtime.TensorHandle, type: tl.dtype) -> None:  # noqa: A002 (triton names it)
    """``tl.tensor.__init__``, with the shape of a block of that size kept from before."""
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.numel, self.shape = _shape_of(type.shape if isinstance(type, tl.block_type) else ())


class _Everything:
    """Stands for a function whose globals name all of the language."""

    __globals__: ClassVar[dict[str, object]] = {"tl": tl, "core": tl.core, "std": tl.standard}


def _widened_dot(
    self: object,
    a: runtime.TensorHandle,
    b: runtime.TensorHandle,
    d: runtime.TensorHandle,
    input_precision: object,
    max_num_imprecise_acc: object,
) -> runtime.TensorHandle:
    product = np.matmul(_as_float32(a), _as_float32(b))
    return runtime.TensorHandle(product.astype(d.data.dtype) + d.data, d.dtype.scalar)


def _splat(self: object, to: tl.block_type, handle: runtime.TensorHandle) -> runtime.TensorHandle:
    data = handle.data[0] if isinstance(handle.dtype, tl.block_type) else handle.data
    return runtime.TensorHandle(
        np.full(to.shape, data, dtype=handle.data.dtype), handle.dtype.scalar
    )


def _as_bfloat16(data: np.ndarray) -> np.ndarray:
    """The bits, rounded to nearest even."""
    bits = np.ascontiguousarray(data).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(data), 0x7FC0, rounded).astype(np.uint16)


def _as_float32(handle: runtime.TensorHandle) -> np.ndarray:
    scalar = handle.dtype.scalar
    if scalar == tl.bfloat16:  # kept as uint16
        return (handle.data.astype(np.uint32) << 16).view(np.float32)
    return handle.data.astype(np.float32)


@contextmanager
def poisoned() -> Generator[None]:
    """Fill what ``torch.empty`` and ``torch.empty_like`` return: NaN, or the lowest integer.

    A kernel that leaves a place unwritten, or reads one, then shows.

    Yields:
        Nothing: fresh tensors of the block are filled.
    """
    empty, empty_like = torch.empty, torch.empty_like

    def poison(tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.bool:
            return tensor.fill_(True)
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
            return tensor.fill_(float("nan"))
        return tensor.fill_(torch.iinfo(tensor.dtype).min)

    def filled(*args: object, **options: object) -> Tensor:
        return poison(empty(*args, **options))  # pyright: ignore (passed on as they came)

    def filled_like(*args: object, **options: object) -> Tensor:
        return poison(empty_like(*args, **options))  # pyright: ignore (passed on as they came)

    torch.empty, torch.empty_like = filled, filled_like  # pyright: ignore (a stand-in)
    try:
        yield
    finally:
        torch.empty, torch.empty_like = empty, empty_like
