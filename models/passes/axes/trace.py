"""Follow the axes of token ids through the operations of one pass.

Sizes do not tell sequences, tokens and width apart where they are equal, nor whether rows stand in
the order of the ids; what was done to a tensor does.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from isogloss.models.passes.axes.labels import Label, LabelledAxes, free, resized, size_of, whole
from isogloss.models.passes.axes.operations import (
    PRODUCTS,
    RECURRENT,
    SAME,
    SUMS,
    VIEWS,
    Operation,
)
from isogloss.models.passes.axes.parts import TAKING
from isogloss.models.passes.axes.tables import Tables, TracedAxes
from isogloss.models.passes.inputs import are_whole_numbers

_OVERWRITING = frozenset(("__setitem__", "__set__", "copy_", "numpy", "set_", "resize_"))
"""Write other numbers into a tensor, or give its memory to others that may."""
_ATTRIBUTES = frozenset(("T", "mT", "data"))
"""Those that give tensors to follow."""


class AxisTrace(TorchFunctionMode):
    """Watches the operations of the thread that it was begun in, until it is ended."""

    def __init__(self) -> None:
        super().__init__()
        self._tables = Tables()
        self._known: dict[int, tuple[weakref.ref[Tensor], LabelledAxes, int]] = {}
        self._packed: dict[int, tuple[weakref.ref[Tensor], LabelledAxes]] = {}
        self._lost: dict[int, tuple[weakref.ref[Tensor], str]] = {}
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
            of = frozenset([self._tables.read(copy)])
            self._set(ids, tuple(((Label(i, of), n),) for i, n in enumerate(ids.shape)))

    def traced(self, tensor: Tensor) -> TracedAxes:
        """Return which axis of ids each axis of a tensor is."""
        axes = self._axes(tensor) or tuple(free(size) for size in tensor.shape)
        labels = tuple(whole(axis) for axis in axes)
        return TracedAxes(labels, tuple(tensor.shape), self._tables, self._lost_at(tensor))

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
            if name not in _ATTRIBUTES:
                return result
        if not self._is_over:
            results = [one for one in _opened(result) if isinstance(one, Tensor)]
            try:
                self._note(func, name, args, given, results)
            except Exception:  # an operation that is called in another way than is known here
                for one in results:
                    self._set(one, None)
            self._explain(name, args, given, results)
        return result

    def _note(
        self,
        func: Callable[..., object],
        name: str,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        results: Sequence[Tensor],
    ) -> None:
        if kwargs.get("out") is not None:
            self._forget_memory(kwargs["out"], name)
        if _is_overwriting(name):
            self._forget_memory(args[0], name)
        elif results:
            short = name.strip("_")
            if short in ("embedding", "one_hot", "getitem", "index_select", "embedding_bag"):
                for ids in (*args[:3], *kwargs.values()):
                    self._name_new(ids)
            self._note_packed(short, args, results[0])
            if short == "pad_packed_sequence":
                self._set(results[0], self._padded(args, results[0]))
                return
            done = Operation(short, func, args, kwargs, self._axes, self._tables)
            for one, axes in zip(results, done.axes(results), strict=True):
                self._set(one, axes)

    def _name_new(self, ids: object) -> None:
        """Follow ids by which rows are looked up, which the model may have made inside."""
        if isinstance(ids, Tensor) and are_whole_numbers(ids) and self._axes(ids) is None:
            self.name(ids, ids.detach().clone())

    def _note_packed(self, name: str, args: Sequence[object], result: Tensor) -> None:
        """Note texts of unlike lengths that stand one behind another, as a recurrent layer takes.

        Their axes are those of the padded texts, ``[tokens, sequences, width]``.
        """
        if name == "pack_padded_sequence":
            axes = self._axes(args[0])
            if axes is not None and args[2]:
                axes = (axes[1], axes[0], *axes[2:])
        elif name in RECURRENT or name in SAME or name == "linear":
            axes = self._packed_axes(args[0])
            axes = axes and (*axes[:-1], free(result.shape[-1]))
        else:
            return
        if axes is not None and len(axes) == 3:
            self._packed[id(result)] = weakref.ref(result), axes

    def _packed_axes(self, tensor: object) -> LabelledAxes | None:
        found = self._packed.get(id(tensor))
        return None if found is None or found[0]() is not tensor else found[1]

    def _padded(self, args: Sequence[object], result: Tensor) -> LabelledAxes | None:
        packed = self._packed_axes(args[0])
        order = (1, 0, 2) if args[2] else (0, 1, 2)
        return packed and resized(tuple(packed[i] for i in order), result.shape)

    def _axes(self, tensor: object) -> LabelledAxes | None:
        found = self._known.get(id(tensor))
        known = None if found is None else found[0]()
        if found is None or known is None or known is not tensor or found[2] != _memory(known):
            return None
        return found[1]

    def _set(self, tensor: Tensor, axes: LabelledAxes | None) -> None:
        if axes is not None and [size_of(axis) for axis in axes] == [*tensor.shape]:
            self._known[id(tensor)] = weakref.ref(tensor), axes, _memory(tensor)
        else:
            self._known.pop(id(tensor), None)

    def _explain(
        self,
        name: str,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        results: Sequence[Tensor],
    ) -> None:
        """Note behind which operation axes of ids are lost, to say so."""
        given = [one for arg in (*args, *kwargs.values()) for one in _opened(arg)]
        told = next((lost for one in given if (lost := self._lost_at(one))), "")
        had = max((len(_named(self._axes(one))) for one in given), default=0)
        for one in results:
            if _is_overwriting(name) or len(_named(self._axes(one))) == 2:
                continue
            why = told or (name.strip("_") if had > len(_named(self._axes(one))) else "")
            if why:
                self._lost[id(one)] = weakref.ref(one), why

    def _lost_at(self, tensor: object) -> str:
        found = self._lost.get(id(tensor))
        is_known = len(_named(self._axes(tensor))) == 2
        return found[1] if found is not None and found[0]() is tensor and not is_known else ""

    def _forget_memory(self, written: object, name: str) -> None:
        """Forget tensors that were written to, and all others that show the same memory."""
        for one in _opened(written):
            if isinstance(one, Tensor):
                memory = _memory(one)
                shown = [(key, found) for key, found in self._known.items() if found[2] == memory]
                for key, (tensor, _, _) in shown:
                    self._known.pop(key, None)
                    self._lost[key] = tensor, name.strip("_")
                self._lost[id(one)] = weakref.ref(one), name.strip("_")


def _opened(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, tuple | list) else [value]


def _named(axes: LabelledAxes | None) -> set[int]:
    """Return which axes of ids stand among the axes of a tensor, each as one whole."""
    return {label.axis for axis in axes or () for label, _ in axis if label}


def _is_overwriting(name: str) -> bool:
    """Return whether an operation writes numbers into a tensor that may move its rows."""
    if name in _OVERWRITING:
        return True
    is_in_place = name.endswith("_") and not name.endswith("__")
    return is_in_place and name.strip("_") not in SAME | SUMS | VIEWS | TAKING | PRODUCTS.keys()


def _memory(tensor: Tensor) -> int:
    """Return what tensors have in common that show the same memory; 0: that is not known."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # not in memory, or in several pieces
        return 0


__all__ = ["AxisTrace"]
