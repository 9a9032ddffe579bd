"""What operations do to the axes of ids: those that keep, join, move, cut or lose them.

An embedding of ids ``[a, b]`` gives ``[a, b, width]``; a transposition moves these axes, a layer on
the last axis keeps the others, a sum has those of its terms. What an operation that is not listed
here gives has no known axes, so that nothing is guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from isogloss.models.passes.axes.labels import (
    UNKNOWN,
    LabelledAxes,
    LabelledAxis,
    both,
    free,
    is_free,
    renamed,
    resized,
    size_of,
    tables_in,
    tainted,
    viewed,
)
from isogloss.models.passes.axes.order import REORDERING, order_after
from isogloss.models.passes.axes.parts import TAKING, joined, padded, taken
from isogloss.models.passes.axes.tables import NONE, Tables
from isogloss.models.passes.inputs import are_whole_numbers

SAME = frozenset((
    "abs", "absolute", "acos", "acosh", "alpha_dropout", "asin", "asinh", "atan", "atanh",
    "batch_norm", "bfloat16", "ceil", "celu", "clamp", "clamp_max", "clamp_min", "clip", "clone",
    "conj", "contiguous", "cos", "cosh", "cpu", "cuda", "cummax", "cummin", "cumprod", "cumsum",
    "data", "detach", "double", "dropout", "dropout1d", "elu", "erf", "erfc", "exp", "exp2",
    "expm1", "feature_alpha_dropout", "feature_dropout", "float", "floor", "frac", "gelu",
    "group_norm", "gumbel_softmax", "half", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "instance_norm", "int", "layer_norm", "leaky_relu", "log", "log10", "log1p", "log2",
    "log_softmax", "logcumsumexp", "logit", "logsigmoid", "long", "masked_fill", "mish",
    "nan_to_num", "native_dropout", "native_layer_norm", "neg", "normalize", "positive", "prelu",
    "reciprocal", "relu", "relu6", "requires_grad", "rms_norm", "round", "rrelu", "rsqrt", "selu",
    "sigmoid", "sign", "silu", "sin", "sinh", "softmax", "softmin", "softplus", "softshrink",
    "softsign", "sqrt", "square", "tan", "tanh", "tanhshrink", "threshold", "to", "trunc", "type",
    "type_as",
))  # fmt: skip
"""Work on each number, or weigh numbers by others: each stays where it is."""
SUMS = frozenset((
    "add", "addcdiv", "addcmul", "atan2", "copysign", "div", "divide", "float_power", "fmax",
    "fmin", "fmod", "hypot", "iadd", "idiv", "imul", "isub", "itruediv", "lerp", "logaddexp",
    "maximum", "minimum", "mul", "multiply", "pow", "radd", "rdiv", "remainder", "rmul", "rpow",
    "rsub", "rtruediv", "sub", "subtract", "true_divide", "truediv", "where", "xlogy",
))  # fmt: skip
"""Join tensors number by number."""
COPIES = frozenset((
    "clone", "contiguous", "cpu", "cuda", "data", "detach", "int", "long", "to", "type",
))  # fmt: skip
"""Those that leave ids what they are."""
VIEWS = frozenset((
    "flatten", "ravel", "reshape", "reshape_as", "squeeze", "unflatten", "unsqueeze", "view",
    "view_as",
))  # fmt: skip
"""Give the same numbers in the same order, in another shape."""
_RESIZING = frozenset((
    "amax", "amin", "expand_as", "glu", "logsumexp", "mean", "norm", "repeat",
    "repeat_interleave", "std", "sum", "tile", "var",
))  # fmt: skip
"""Change the size of some axes: those of the same size stay, where there are as many axes."""
RECURRENT = frozenset(("gru", "lstm", "rnn_relu", "rnn_tanh"))
_LAST = frozenset((
    "gru_cell", "lstm_cell", "multi_head_attention_forward", "native_multi_head_attention",
    "rnn_relu_cell", "rnn_tanh_cell", "scaled_dot_product_attention",
    "transformer_encoder_layer_fwd",
))  # fmt: skip
"""Give other numbers on the last axis alone."""
_OVER_AXES = frozenset((
    "avg_pool1d", "conv1d", "conv2d", "max_pool1d", "max_pool1d_with_indices",
))  # fmt: skip
"""Give at each place what stands around it, on the axes behind the second."""
_CAT = frozenset(("cat", "concat", "concatenate", "stack", "hstack", "vstack"))
PRODUCTS = {"linear": 0, "matmul": 0, "mm": 0, "bmm": 0, "imatmul": 0, "addmm": 1, "baddbmm": 1}
"""Products of matrices, with the place of the left one among their arguments."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a function of torch, with what is known of the tensors that it is given."""

    name: str
    """Of the function, without underscores."""
    func: Callable[..., object]
    args: Sequence[object]
    kwargs: Mapping[str, object]
    known: Callable[[object], LabelledAxes | None]
    """Gives the axes of an argument; None: they are not known."""
    tables: Tables
    """All ids that are followed."""

    def axes(self, results: Sequence[Tensor]) -> list[LabelledAxes | None]:
        """Return the axes of the tensors that it gave; None: they are not known."""
        before = self.known(self.args[0]) if self.args else None
        if before is not None and self.name in TAKING:
            found = taken(self.func, self.args, self.kwargs, before, self.tables)
            if found is not None:
                return [*found]
        first = self._reordered(before, results[0])
        first = first or self._looked_up(before, results[0]) or self._first(before, results[0])
        if first and are_whole_numbers(results[0]) and not self._are_ids(first):
            first = None  # ids of its own, which the model has made
        return [first, *[None] * (len(results) - 1)]

    def _are_ids(self, axes: LabelledAxes) -> bool:
        """Return whether whole numbers are the ids of a table, and nothing else."""
        of = tables_in(axes)
        are_all = all(size_of(axis) == 1 or not is_free(axis) for axis in axes)
        is_filled = any(bool((self.tables[one].places == NONE).any()) for one in of - {UNKNOWN})
        return bool(of) and are_all and not is_filled and UNKNOWN not in of

    def _first(self, before: LabelledAxes | None, result: Tensor) -> LabelledAxes | None:
        name, args = self.name, self.args
        is_of_ids = are_whole_numbers(result) or result.dtype == torch.bool
        if is_of_ids and name in (SAME - COPIES) | SUMS | _RESIZING:
            return None  # other ids
        if name in SUMS:
            return self._summed([*args, *self.kwargs.values()], result)
        if name in _CAT:
            return self._put_together(result)
        if name == "einsum":
            return self._einsum()
        if name in PRODUCTS:
            return self._product(args[PRODUCTS[name] :], result)
        if name == "bilinear":
            known = [self.known(one) or () for one in args[:2]]
            return (*map(both, *(axes[:-1] for axes in known)), free(result.shape[-1]))
        return None if before is None else self._alone(before, result)

    def _alone(self, before: LabelledAxes, result: Tensor) -> LabelledAxes | None:
        """Return the axes of what was made of one tensor."""
        name = self.name
        if name in SAME:
            return before
        if name in _LAST or (name in RECURRENT and result.ndim == 3):
            return (*before[:-1], free(result.shape[-1]))
        if name in VIEWS:
            return viewed(before, result.shape)
        if name == "view_as_complex":
            return before[:-1]
        if name == "view_as_real":
            return (*before, free(2))
        if name == "pad":
            return self._padded(before)
        if name in _OVER_AXES:
            return self._over_axes(before, result)
        if name in _RESIZING and len(before) == result.ndim:
            return resized(before, result.shape)
        return None

    def _argument(self, place: int, name: str, default: object) -> object:
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)

    def _padded(self, before: LabelledAxes) -> LabelledAxes | None:
        mode = self._argument(2, "mode", "constant")
        sides = cast("Sequence[int]", self._argument(1, "pad", ()))
        if mode not in ("constant", "circular"):
            return None
        return padded(before, sides, self.tables, is_circular=mode == "circular")

    def _over_axes(self, before: LabelledAxes, result: Tensor) -> LabelledAxes | None:
        """Return the axes behind a convolution: its last ones may be longer at their ends."""
        where = 3 if self.name.startswith("conv") else 2
        steps = self._argument(where, "stride", 1 if where == 3 else None)
        is_short = steps not in (1, (1,), (1, 1), [1], [1, 1])
        if is_short or len(before) != result.ndim or result.ndim < 3:
            return None
        sides = list[int]()
        for axis, size in reversed([*zip(before, result.shape, strict=True)][2:]):
            sides += [0, size - size_of(axis)]
        is_longer = min(sides) >= 0
        found = padded(before, sides, self.tables) if is_longer else resized(before, result.shape)
        return (found[0], free(result.shape[1]), *found[2:])

    def _summed(self, terms: Sequence[object], result: Tensor) -> LabelledAxes | None:
        some = [term for term in terms if isinstance(term, Tensor)]
        known = [self.known(term) for term in some]
        if all(axes is None for axes in known):
            return None
        found = [free(size) for size in result.shape]
        for axes in known:
            for i, axis in enumerate(reversed(axes or ()), 1):
                if size_of(axis) == result.shape[-i]:  # else it is repeated
                    found[-i] = both(found[-i], axis)
        for term, axes in zip(some, known, strict=True):
            if axes is None and _may_be_of_others(term, found):
                found = [tainted(axis) for axis in found]
        return tuple(found)

    def _put_together(self, result: Tensor) -> LabelledAxes | None:
        pieces = cast("Sequence[Tensor]", self.args[0] if self.args else self.kwargs["tensors"])
        known = [(self.known(one), [*one.shape]) for one in pieces]
        dim = cast("int", self._argument(1, "dim", self.kwargs.get("axis", 0)))
        if self.name in ("hstack", "vstack") or all(axes is None for axes, _ in known):
            return None
        dim %= result.ndim
        if self.name == "stack":
            for i, (axes, shape) in enumerate(known):
                shape.insert(dim, 1)
                known[i] = axes and (*axes[:dim], free(1), *axes[dim:]), shape
        found = joined(known, dim, self.tables)
        is_along_width = is_free(found[dim])
        for axes, shape in known:
            is_beside = is_along_width and _without(shape, dim) == _without(result.shape, dim)
            if axes is None and is_beside:
                found = tuple(tainted(axis) for axis in found)  # beside rows of unknown ids
        return found

    def _product(self, args: Sequence[object], result: Tensor) -> LabelledAxes | None:
        """Return the axes of a product: the rows of the left, the columns of the right."""
        left, right = self.known(args[0]), self.known(args[1])
        if left is None or len(left) < 2:
            return None
        if right is None or len(right) < 2:
            return (*left[:-1], free(result.shape[-1]))
        return (*left[:-1], right[-1])

    def _einsum(self) -> LabelledAxes | None:
        equation = cast("str", self.args[0]).replace(" ", "")
        given = self.args[1:]
        operands = cast(
            "Sequence[Tensor]", given[0] if isinstance(given[0], list | tuple) else given
        )
        inputs, arrow, output = equation.partition("->")
        if not arrow:
            return None
        letters: dict[str, LabelledAxis] = {}
        most = 0
        for names, operand in zip(inputs.split(","), operands, strict=True):
            more = operand.ndim - len(names.replace("...", ""))
            most = max(most, more)
            axes = self.known(operand) or [free(n) for n in operand.shape]
            for letter, axis in zip(_spelled(names, more), axes, strict=True):
                letters[letter] = both(letters.get(letter, axis), axis)
        is_known = any(not is_free(axis) for axis in letters.values())
        return tuple(letters[letter] for letter in _spelled(output, most)) if is_known else None

    def _looked_up(self, before: LabelledAxes | None, result: Tensor) -> LabelledAxes | None:
        """Return the axes of rows that were looked up, one for each id."""
        args = self.args
        if self.name in ("embedding", "one_hot"):
            ids = args[0] if args else self.kwargs.get("input")
        elif self.name == "embedding_bag":
            return self._bagged(result)
        elif self.name == "index_select" and before is None and args[1] == 0:
            ids = args[2]
        elif self.name == "getitem" and before is None:
            ids = args[1]
        else:
            return None
        axes = self.known(ids)
        if axes is None or not isinstance(ids, Tensor) or not are_whole_numbers(ids):
            return None
        return (*axes, *(free(n) for n in result.shape[ids.ndim :]))

    def _bagged(self, result: Tensor) -> LabelledAxes | None:
        """Return the axes of rows that were looked up in bags, of one id each."""
        axes, ids = self.known(self.args[0]), self.args[0]
        if axes is None or not isinstance(ids, Tensor):
            return None
        if ids.ndim == 2:
            return (axes[0], free(result.shape[1])) if ids.shape[1] == 1 else None
        begins = self._argument(2, "offsets", None)
        are_single = isinstance(begins, Tensor) and torch.equal(
            begins, torch.arange(len(ids), device=begins.device, dtype=begins.dtype)
        )
        return (*axes, free(result.shape[1])) if are_single else None

    def _reordered(self, before: LabelledAxes | None, result: Tensor) -> LabelledAxes | None:
        """Return the axes of rows at other places: those of ids in another order, a new table."""
        shape = getattr(self.args[0], "shape", None) if self.args else None
        if before is None or self.name not in REORDERING or result.shape != shape:
            return None
        of, places_free = tables_in(before), [is_free(axis) for axis in before]
        given = [*self.args[1:], *self.kwargs.values()]
        varies = any(isinstance(one, Tensor) for arg in given for one in _opened(arg))
        moved: dict[int, int] = {}
        for one in of - {UNKNOWN}:
            axes = [
                [(label.axis if label and one in label.tables else None, n) for label, n in axis]
                for axis in before
            ]
            places = self.tables[one].places
            after = order_after(
                self.name, self.func, self.args, self.kwargs, axes, places_free, places
            )
            if after is None:
                return None
            moved[one] = self.tables.ordered(one, after, varies=varies)
        if UNKNOWN in of and any(one != other for one, other in moved.items()):
            return None
        return renamed(before, moved)


def _without(shape: Sequence[int], dim: int) -> list[int]:
    return [size for i, size in enumerate(shape) if i != dim]


def _opened(argument: object) -> Sequence[object]:
    is_many = isinstance(argument, tuple | list)
    return cast("Sequence[object]", argument) if is_many else [argument]


def _spelled(names: str, more: int) -> list[str]:
    """Return the names of axes, where dots stand for some that have none."""
    before, dots, behind = names.partition("...")
    return [*before, *(f".{i}" for i in range(more, 0, -1) if dots), *behind]


def _may_be_of_others(term: Tensor, axes: Sequence[LabelledAxis]) -> bool:
    """Return whether a term of unknown axes may be of ids of its own: it has a row for each."""
    shape = [1] * (len(axes) - term.ndim) + [*term.shape]
    of_ids = [i for i, axis in enumerate(axes) if not is_free(axis)]
    return term.ndim > 1 and all(shape[i] == size_of(axes[i]) for i in of_ids)


__all__ = ["COPIES", "PRODUCTS", "RECURRENT", "SAME", "SUMS", "VIEWS", "Operation"]
