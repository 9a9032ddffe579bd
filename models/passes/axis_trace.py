"""Follow the axes of token ids through the operations of one pass.

Sizes do not tell sequences, tokens and width apart where they are equal; what was done to a tensor
does. An embedding of ids ``[a, b]`` gives ``[a, b, width]``; a transposition moves these axes, a
layer on the last axis keeps the others, a sum has those of its terms. What an operation that is not
listed here gives has no known axes, so that nothing is guessed.
"""

import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from isogloss.models.passes.axis_order import REORDERING, order_after
from isogloss.models.passes.inputs import same

UNKNOWN = -1
"""Stands in a label for ids that are not known."""


@dataclass(frozen=True, slots=True)
class Label:
    """An axis of a table of ids."""

    axis: int
    """0 or 1."""
    tables: frozenset[int]
    """Of which tables: several where their states were added up, or -1 for one not known."""


Places = tuple[int | None, int | None]
"""Axis of the sequences and axis of the tokens; None: of size 1, where it makes no difference."""
_Axis = tuple[tuple[Label | None, int], ...]
"""The parts that an axis is made of, with their sizes; None: a part that is no axis of ids."""
_Axes = tuple[_Axis, ...]

_SAME = frozenset((
    "abs", "alpha_dropout", "batch_norm", "bfloat16", "celu", "clamp", "clip", "clone",
    "contiguous", "cos", "cpu", "cuda", "detach", "double", "dropout", "dropout1d", "elu",
    "erf", "exp", "expm1", "feature_alpha_dropout", "feature_dropout", "float", "gelu",
    "group_norm", "half", "hardsigmoid", "hardswish", "hardtanh", "instance_norm", "int",
    "layer_norm", "leaky_relu", "log", "log1p", "log_softmax", "logsigmoid", "long",
    "masked_fill", "mish", "nan_to_num", "native_dropout", "native_layer_norm", "neg",
    "normalize", "prelu", "reciprocal", "relu", "relu6", "requires_grad", "rms_norm", "rrelu",
    "rsqrt", "selu", "sigmoid", "sign", "silu", "sin", "softmax", "softplus", "softsign",
    "sqrt", "square", "tanh", "threshold", "to", "type", "type_as",
))  # fmt: skip
"""Work on each number, or weigh numbers by others: each stays where it is."""
_SUMS = frozenset((
    "add", "addcdiv", "addcmul", "div", "divide", "iadd", "idiv", "imul", "isub", "itruediv",
    "lerp", "maximum", "minimum", "mul", "multiply", "pow", "radd", "rdiv", "rmul", "rpow",
    "rsub", "rtruediv", "sub", "subtract", "true_divide", "truediv", "where",
))  # fmt: skip
"""Join tensors number by number."""
_COPIES = frozenset(("clone", "contiguous", "cpu", "cuda", "detach", "int", "long", "to", "type"))
"""Those that leave ids what they are."""
_VIEWS = frozenset(("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"))
"""Give the same numbers in the same order, in another shape."""
_MOVES = frozenset(("t", "transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis"))
_RESIZING = frozenset((
    "amax", "amin", "expand", "logsumexp", "mean", "norm", "repeat",
    "repeat_interleave", "std", "sum", "var",
))  # fmt: skip
"""Change the size of some axes: those of the same size stay, where there are as many axes."""
_RECURRENT = frozenset(("lstm", "gru", "rnn_tanh", "rnn_relu"))
_ATTENTION = frozenset(("scaled_dot_product_attention", "multi_head_attention_forward"))
_PRODUCTS = {"linear": 0, "matmul": 0, "mm": 0, "bmm": 0, "imatmul": 0, "addmm": 1, "baddbmm": 1}
"""Products of matrices, with the place of the left one among their arguments."""
_OVERWRITING = frozenset(("__setitem__", "__set__", "copy_", "numpy", "set_", "resize_"))
"""Write other numbers into a tensor, or give its memory to others that may."""


@dataclass(frozen=True, slots=True, eq=False)
class TracedAxes:
    """What was followed to the output of a site."""

    labels: tuple[Label | None, ...]
    """Which axis of ids each axis of the output is."""
    tables: Sequence[Tensor]
    """The ids, by the number in labels."""
    origins: Mapping[int, int]
    """Of tables whose ids are those of another one in another order: which one."""

    def places(self, ids: Tensor, *, is_turned: bool) -> Places | None:
        """Return where the sequences and tokens of some ids are; None: that is not told.

        Args:
            ids: ``[sequences, tokens]``, or turned.
            is_turned: whether they are ``[tokens, sequences]``.
        """
        own, found = self._numbers(ids), list[int | None]()
        for axis in (1, 0) if is_turned else (0, 1):
            at = [i for i, label in enumerate(self.labels) if _is_of(label, axis, own)]
            if len(at) != 1 and ids.shape[axis] != 1:
                return None
            found.append(at[0] if len(at) == 1 and ids.shape[axis] != 1 else None)
        return found[0], found[1]

    def is_of_others(self, ids: Tensor) -> bool:
        """Return whether the output is certainly of other ids than these."""
        return self._are_others(self._numbers(ids))

    def is_moved_from(self, some: Sequence[Tensor]) -> bool:
        """Return whether the output has rows of some ids, certainly at other places.

        Args:
            some: the ids that it may be of, each ``[a, b]``.
        """
        own = set[int]().union(*map(self._numbers, some))
        return self._are_others(own) and any(self.origins.get(one) in own for one in self._of)

    @property
    def _of(self) -> frozenset[int]:
        return frozenset[int]().union(*(label.tables for label in self.labels if label))

    def _are_others(self, own: set[int]) -> bool:
        return bool(self._of) and UNKNOWN not in self._of and not self._of & own

    def _numbers(self, ids: Tensor) -> set[int]:
        return {i for i, table in enumerate(self.tables) if same(table, ids)}


class AxisTrace(TorchFunctionMode):
    """Watches the operations of the thread that it was begun in, until it is ended."""

    def __init__(self) -> None:
        super().__init__()
        self._tables: list[Tensor] = []
        self._origins: dict[int, int] = {}
        self._known: dict[int, tuple[weakref.ref[Tensor], _Axes, int]] = {}
        self._packed: dict[int, tuple[weakref.ref[Tensor], _Axes]] = {}
        self._is_begun = self._is_over = False

    def begin(self) -> None:
        """Watch the operations that follow."""
        self.__enter__()
        self._is_begun = True

    def end(self) -> None:
        """Watch no more; nothing happens where it was not begun, or was ended before."""
        self._is_over = True
        if not self._is_begun:
            return
        stack = torch.overrides._get_current_function_mode_stack()
        if stack and stack[-1] is self:  # else a mode of the model's own is left open above it
            self._is_begun = False
            self.__exit__(None, None, None)

    def name(self, ids: Tensor, copy: Tensor) -> None:
        """Follow a table of ids.

        Args:
            ids: ``[a, b]``, the very tensor that the model works on.
            copy: the same ids, which nothing changes.
        """
        if self._axes(ids) is None and ids.ndim == 2:
            of = frozenset([len(self._tables)])
            self._tables.append(copy)
            self._set(ids, tuple(((Label(i, of), n),) for i, n in enumerate(ids.shape)))

    def traced(self, tensor: Tensor) -> TracedAxes | None:
        """Return which axis of ids each axis of a tensor is; None: nothing is known of it."""
        axes = self._axes(tensor)
        if axes is None:
            return None
        return TracedAxes(tuple(_whole(axis) for axis in axes), self._tables, self._origins)

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run an operation, and note the axes of what it gives."""
        given = kwargs or {}
        result = func(*args, **given)
        name = getattr(func, "__name__", "")
        if name == "__get__":  # a size, or .T
            name = getattr(getattr(func, "__self__", None), "__name__", "")
            if name not in ("T", "mT"):
                return result
        if not self._is_over:
            try:
                self._note(func, name, args, given, result)
            except Exception:  # an operation that is called in another way than is known here
                self._forget(result)
        return result

    def _note(
        self,
        func: Callable[..., object],
        name: str,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        result: object,
    ) -> None:
        if kwargs.get("out") is not None:
            self._forget_memory(kwargs["out"])
        if _is_overwriting(name):
            self._forget_memory(args[0])
        elif name in ("split", "chunk"):
            self._note_parts(args, kwargs, cast("Sequence[Tensor]", result))
        else:
            is_many = isinstance(result, tuple | list) and len(cast("Sequence[object]", result))
            first = cast("Sequence[object]", result)[0] if is_many else result
            if isinstance(first, Tensor):
                short = name.strip("_")
                self._note_packed(short, args, first)
                moved = None
                if short in REORDERING and first.shape == getattr(args[0], "shape", None):
                    moved = self._reordered(short, func, args, kwargs)
                found = moved or self._found(short, args, kwargs, first)
                self._set(first, found)

    def _found(
        self, name: str, args: Sequence[object], kwargs: Mapping[str, object], result: Tensor
    ) -> _Axes | None:
        """Return the axes of what an operation gives; None: they are not known."""
        if name in ("embedding", "one_hot"):
            return self._looked_up(args[0] if args else kwargs.get("input"), result)
        if not result.is_floating_point() and name in (_SAME - _COPIES) | _SUMS | _RESIZING:
            return None  # other ids
        if name in _SUMS:
            return self._summed([*args, *kwargs.values()], result)
        if name in ("cat", "concat", "concatenate"):
            return self._summed(cast("Sequence[object]", args[0]), result)
        if name == "einsum":
            return self._einsum(args)
        if name in _PRODUCTS:
            return self._product(args[_PRODUCTS[name] :], result)
        if name == "bilinear":
            known = [self._axes(one) or () for one in args[:2]]
            return (*map(_both, *(axes[:-1] for axes in known)), _free(result.shape[-1]))
        if name == "pad_packed_sequence":
            packed = self._packed_axes(args[0])
            order = (1, 0, 2) if args[2] else (0, 1, 2)
            return packed and _resized(tuple(packed[i] for i in order), result)
        before = self._axes(args[0])
        if name == "index_select" and before is None and args[1] == 0:
            return self._looked_up(args[2], result)
        if name == "getitem":
            return (
                self._looked_up(args[1], result)
                if before is None
                else _cut(before, args[1:], result)
            )
        if before is None:
            return None
        if name in _SAME:
            return before
        if name in _ATTENTION or (name in _RECURRENT and result.ndim == 3):
            return (*before[:-1], _free(result.shape[-1]))
        if name in _VIEWS:
            return _viewed(before, result.shape)
        if name in _RESIZING and len(before) == result.ndim:
            return _resized(before, result)
        return _moved(before, name, args[1:], kwargs)

    def _reordered(
        self,
        name: str,
        func: Callable[..., object],
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> _Axes | None:
        """Return the axes of rows at other places: those of ids in another order, a new table."""
        before = self._axes(args[0])
        if before is None:
            return None
        of = frozenset[int]().union(
            *(label.tables for axis in before for label, _ in axis if label)
        )
        free = [not any(label for label, _ in axis) for axis in before]
        moved: dict[int, int] = {}
        for one in of - {UNKNOWN}:
            axes = [
                [(label.axis if label and one in label.tables else None, n) for label, n in axis]
                for axis in before
            ]
            ids = order_after(name, func, args, kwargs, axes, free, self._tables[one])
            if ids is None:
                return None
            moved[one] = self._number_of(ids, self._origins.get(one, one))
        if UNKNOWN in of and any(one != other for one, other in moved.items()):
            return None
        return tuple(tuple((_renamed(label, moved), n) for label, n in axis) for axis in before)

    def _number_of(self, ids: Tensor, origin: int) -> int:
        """Return the number of a table of the same ids as another, in some order."""
        for i, table in enumerate(self._tables):
            if (i == origin or self._origins.get(i) == origin) and same(table, ids):
                return i
        self._origins[len(self._tables)] = origin
        self._tables.append(ids)
        return len(self._tables) - 1

    def _looked_up(self, ids: object, result: Tensor) -> _Axes | None:
        """Return the axes of rows that were looked up, one for each id."""
        if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dtype == torch.bool:
            return None
        if self._axes(ids) is None:
            self.name(ids, ids.detach().clone())
        axes = self._axes(ids)
        return axes and (*axes, *(_free(n) for n in result.shape[ids.ndim :]))

    def _summed(self, given: Iterable[object], result: Tensor) -> _Axes | None:
        """Return the axes of a sum, or of parts in a row: those of its terms, from the last."""
        terms = [value for value in given if isinstance(value, Tensor)]
        known = [self._axes(term) for term in terms]
        if not any(known):
            return None
        found = [_free(n) for n in result.shape]
        for axes in known:
            for i, axis in enumerate(reversed(axes or ()), 1):
                if _size(axis) == result.shape[-i]:  # else it is repeated, or another one is behind
                    found[-i] = _both(found[-i], axis)
        for term, axes in zip(terms, known, strict=True):
            if axes is None and _may_be_of_others(term, found):
                found = [_tainted(axis) for axis in found]
        return tuple(found)

    def _product(self, args: Sequence[object], result: Tensor) -> _Axes | None:
        """Return the axes of a product: the rows of the left, the columns of the right."""
        left, right = self._axes(args[0]), self._axes(args[1])
        if left is None or len(left) < 2:
            return None
        if right is None or len(right) < 2:
            return (*left[:-1], _free(result.shape[-1]))
        return (*left[:-1], right[-1])

    def _einsum(self, args: Sequence[object]) -> _Axes | None:
        inputs, arrow, output = cast("str", args[0]).replace(" ", "").partition("->")
        if not arrow or "." in inputs:
            return None
        letters: dict[str, _Axis] = {}
        for names, operand in zip(
            inputs.split(","), cast("Sequence[Tensor]", args[1:]), strict=True
        ):
            axes = self._axes(operand) or [_free(n) for n in operand.shape]
            for letter, axis in zip(names, axes, strict=True):
                letters[letter] = _both(letters.get(letter, axis), axis)
        is_known = any(label for axis in letters.values() for label, _ in axis)
        return tuple(letters[letter] for letter in output) if is_known else None

    def _note_parts(
        self, args: Sequence[object], kwargs: Mapping[str, object], parts: Sequence[Tensor]
    ) -> None:
        before, axis = self._axes(args[0]), kwargs.get("dim", args[2] if len(args) > 2 else 0)
        if before is not None and isinstance(axis, int):
            for part in parts:
                axes = [*before]
                axes[axis] = _free(part.shape[axis])
                self._set(part, tuple(axes))

    def _note_packed(self, name: str, args: Sequence[object], result: Tensor) -> None:
        """Note texts of unlike lengths that stand one behind another, as a recurrent layer takes.

        Their axes are those of the padded texts, ``[tokens, sequences, width]``.
        """
        if name == "pack_padded_sequence":
            axes = self._axes(args[0])
            if axes is not None and args[2]:
                axes = (axes[1], axes[0], *axes[2:])
        elif name in _RECURRENT or name in _SAME or name == "linear":
            axes = self._packed_axes(args[0])
            axes = axes and (*axes[:-1], _free(result.shape[-1]))
        else:
            return
        if axes is not None and len(axes) == 3:
            self._packed[id(result)] = weakref.ref(result), axes

    def _packed_axes(self, tensor: object) -> _Axes | None:
        found = self._packed.get(id(tensor))
        return None if found is None or found[0]() is not tensor else found[1]

    def _axes(self, tensor: object) -> _Axes | None:
        found = self._known.get(id(tensor))
        known = None if found is None else found[0]()
        if found is None or known is None or known is not tensor or found[2] != _memory(known):
            return None
        return found[1]

    def _set(self, tensor: Tensor, axes: _Axes | None) -> None:
        if axes is not None and [_size(axis) for axis in axes] == [*tensor.shape]:
            self._known[id(tensor)] = weakref.ref(tensor), axes, _memory(tensor)
        else:
            self._known.pop(id(tensor), None)

    def _forget(self, result: object) -> None:
        some = cast("Sequence[object]", result) if isinstance(result, tuple | list) else [result]
        for one in some:
            self._known.pop(id(one), None)

    def _forget_memory(self, written: object) -> None:
        """Forget tensors that were written to, and all others that show the same memory."""
        some = cast("Sequence[object]", written) if isinstance(written, tuple | list) else [written]
        for one in some:
            if isinstance(one, Tensor):
                memory = _memory(one)
                shown = [key for key, found in self._known.items() if found[2] == memory]
                for key in (id(one), *shown):
                    self._known.pop(key, None)


def _is_overwriting(name: str) -> bool:
    """Return whether an operation writes numbers into a tensor that may move its rows."""
    if name in _OVERWRITING:
        return True
    is_in_place = name.endswith("_") and not name.endswith("__")
    return is_in_place and name.strip("_") not in _SAME | _SUMS | _VIEWS | _MOVES | _PRODUCTS.keys()


def _memory(tensor: Tensor) -> int:
    """Return what tensors have in common that show the same memory; 0: that is not known."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # not in memory, or in several pieces
        return 0


def _renamed(label: Label | None, numbers: Mapping[int, int]) -> Label | None:
    if label is None:
        return None
    return Label(label.axis, frozenset(numbers.get(one, one) for one in label.tables))


def _is_of(label: Label | None, axis: int, tables: set[int]) -> bool:
    return label is not None and label.axis == axis and bool(label.tables & tables)


def _free(size: int) -> _Axis:
    """Return an axis that is none of ids."""
    return ((None, size),)


def _size(axis: _Axis) -> int:
    return math.prod(size for _, size in axis)


def _whole(axis: _Axis) -> Label | None:
    """Return which axis of ids an axis is, where it is one whole."""
    parts = [label for label, size in axis if size != 1] or [label for label, _ in axis]
    return parts[0] if len(parts) == 1 else None


def _both(one: _Axis, other: _Axis) -> _Axis:
    """Return an axis on which two tensors are joined."""
    if not any(label for label, _ in one):
        return other
    if not any(label for label, _ in other):
        return one
    if [size for _, size in one] != [size for _, size in other]:
        return _free(_size(one))
    return tuple(
        (_joined(label, more), size) for (label, size), (more, _) in zip(one, other, strict=True)
    )


def _joined(one: Label | None, other: Label | None) -> Label | None:
    if one is None or other is None or one.axis != other.axis:
        return None
    return Label(one.axis, one.tables | other.tables)


def _may_be_of_others(term: Tensor, axes: Sequence[_Axis]) -> bool:
    """Return whether a term of unknown axes may be of ids of its own: it has a row for each."""
    shape = [1] * (len(axes) - term.ndim) + [*term.shape]
    of_ids = [i for i, axis in enumerate(axes) if any(label for label, _ in axis)]
    return term.ndim > 1 and all(shape[i] == _size(axes[i]) for i in of_ids)


def _tainted(axis: _Axis) -> _Axis:
    return tuple(
        (label and Label(label.axis, label.tables | {UNKNOWN}), size) for label, size in axis
    )


def _resized(axes: _Axes, result: Tensor) -> _Axes:
    """Return the axes behind an operation that changes the size of some: these are none of ids."""
    return tuple(
        axis if _size(axis) == size else _free(size)
        for axis, size in zip(axes, result.shape, strict=True)
    )


def _cut(axes: _Axes, index: Sequence[object], result: Tensor) -> _Axes | None:
    """Return the axes of a part: those of which all is there stay axes of ids."""
    parts = [*cast("tuple[object, ...]", index[0])] if isinstance(index[0], tuple) else [*index]
    if any(isinstance(part, bool | Tensor | list) for part in parts):
        return None
    if Ellipsis in parts:
        at, named = parts.index(Ellipsis), sum(part is not None for part in parts) - 1
        parts[at : at + 1] = [slice(None)] * (len(axes) - named)
    found, left = list[_Axis](), [*axes]
    for part in parts:
        if part is None:
            found.append(_free(1))
        elif isinstance(part, slice):
            axis, size = left.pop(0), result.shape[len(found)]
            found.append(axis if _size(axis) == size else _free(size))
        else:
            left.pop(0)
    return (*found, *left)


def _moved(
    axes: _Axes, name: str, args: Sequence[object], kwargs: Mapping[str, object]
) -> _Axes | None:
    """Return the axes in another order; None: the operation is not known."""
    if name == "T":
        return axes[::-1]
    if name == "mT":
        return (*axes[:-2], axes[-1], axes[-2])
    if name not in _MOVES:
        return None
    places = torch.empty(1).as_strided([1] * len(axes), [*range(len(axes))])
    moved: Tensor = getattr(places, name)(*args, **kwargs)
    return tuple(axes[place] for place in moved.stride())


def _viewed(axes: _Axes, shape: Sequence[int]) -> _Axes | None:
    """Return the axes of the same numbers, in the same order, in another shape."""
    left = [part for axis in axes for part in axis if part[1] != 1]
    found: list[_Axis] = []
    for size in shape:
        own, rest = list[tuple[Label | None, int]](), size
        while rest > 1:
            label, count = left.pop(0)
            if rest % count == 0:
                own.append((label, count))
                rest //= count
            elif count % rest == 0:  # neither part of an axis that is cut is one of ids
                own.append((None, rest))
                left.insert(0, (None, count // rest))
                rest = 1
            else:
                return None
        found.append(tuple(own) or _free(1))
    for i, axis in enumerate(axes[: len(found)]):  # those of size 1 in front stay what they are
        if _size(axis) != _size(found[i]):
            break
        found[i] = axis if _size(axis) == 1 else found[i]
    return tuple(found)


__all__ = ["UNKNOWN", "AxisTrace", "Label", "Places", "TracedAxes"]
