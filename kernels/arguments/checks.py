"""Checks of arguments, made before a kernel is launched."""

import operator
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels.arguments.debug_mode import in_debug_mode, reads_content

_searched = WeakIdKeyDictionary()
"""The version of each weight that was found finite."""
_positive = WeakIdKeyDictionary()
"""The version of each threshold that was found not to be negative."""
_counted = WeakIdKeyDictionary()
"""The version of each mask, and how many features are under it."""


def matrix(
    name: str, tensor: Tensor, *, columns: int | None = None, rows: int | None = None
) -> None:
    """Raise ShapeError unless ``tensor`` is a matrix of that shape (None: any)."""
    wanted = f"[{'*' if rows is None else rows}, {'*' if columns is None else columns}]"
    if (
        tensor.ndim != 2
        or (columns is not None and tensor.shape[1] != columns)
        or (rows is not None and tensor.shape[0] != rows)
    ):
        raise ShapeError(f"{name} is {tuple(tensor.shape)}; {wanted} is wanted")


def vector(name: str, tensor: Tensor, length: int) -> None:
    """Raise ShapeError unless ``tensor`` is ``[length]``."""
    if tuple(tensor.shape) != (length,):
        raise ShapeError(f"{name} is {tuple(tensor.shape)}; [{length}] is wanted")


def floating(**tensors: Tensor) -> None:
    """Raise ShapeError unless every tensor is float32, bfloat16 or float16."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.element_size() > 4:
            raise ShapeError(
                f"{name} is {tensor.dtype}; float32, bfloat16 or float16 is wanted "
                "(float64: isogloss.kernels.reference)"
            )


def one_device(**tensors: Tensor) -> None:
    """Raise ShapeError unless all tensors are on one device."""
    devices = {name: tensor.device for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        found = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ShapeError(f"{found}; move them to one device")


def contiguous(**tensors: Tensor) -> None:
    """Raise ShapeError unless every tensor is contiguous."""
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ShapeError(
                f"{name} has strides {tensor.stride()} for shape {tuple(tensor.shape)}; "
                "pass a contiguous tensor (.contiguous())"
            )


def encoder(x: Tensor, weight: Tensor, bias: Tensor) -> None:
    """Check that rows, encoder directions and bias fit each other.

    Args:
        x: ``[rows, width]``.
        weight: ``[features, width]``.
        bias: ``[features]``.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: ``weight`` or ``bias`` is not finite.
    """
    matrix("x", x)
    matrix("weight", weight, columns=x.shape[1])
    vector("bias", bias, weight.shape[0])
    floating(x=x, weight=weight, bias=bias)
    one_device(x=x, weight=weight, bias=bias)
    contiguous(weight=weight)
    finite(weight=weight, bias=bias)


def whole(**numbers: object) -> None:
    """Raise InvalidInput unless every number is whole: an int, or numpy's."""
    for name, number in numbers.items():
        if not _is_whole(number):
            raise InvalidInput(f"{name} is {number!r}; a whole number is wanted, as an int")


def _is_whole(number: object) -> bool:
    if isinstance(number, bool):
        return False
    try:
        operator.index(number)  # pyright: ignore[reportArgumentType] (what is asked)
    except TypeError:
        return False
    return True


def k_within(k: int, features: int) -> None:
    """Raise InvalidInput unless ``k`` is whole and ``1 <= k <= features``."""
    whole(k=k)
    if not 1 <= k <= features:
        raise InvalidInput(f"k is {k}; it must be in [1, {features}], the number of features")


def indices_within(indices: Tensor, features: int) -> None:
    """Raise InvalidInput when an index is outside ``[0, features)``."""
    if indices.numel() == 0:
        return
    low, high = (int(bound) for bound in indices.aminmax())
    if low < 0 or high >= features:
        raise InvalidInput(f"indices span [{low}, {high}]; each must be in [0, {features})")


def offsets_within(offsets: Tensor, entries: int) -> None:
    """Raise InvalidInput unless offsets rise from 0 to the number of entries."""
    if int(offsets[0]) != 0 or int(offsets[-1]) != entries or bool((offsets.diff() < 0).any()):
        raise InvalidInput(
            f"offsets run from {int(offsets[0])} to {int(offsets[-1])}; they must start at 0, "
            f"never fall, and end at {entries}, the number of entries"
        )


def exactly(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    """Raise ShapeError unless ``tensor`` has that dtype."""
    if tensor.dtype != dtype:
        raise ShapeError(f"{name} is {tensor.dtype}; {dtype} is wanted")


def finite(**tensors: Tensor) -> None:
    """Raise InvalidInput when a weight holds NaN or infinity.

    A tensor is searched again only after it changed (torch counts changes in place). A search is
    one pass: at 24576 x 768 it cost 0.3 % of the GEMM with 2,048 rows, 8 % of that with 32. On a
    device the launch must wait for the answer. So weights that are being trained there, which
    change at every step, are searched in debug mode only; a NaN in them shows in the loss.

    Args:
        **tensors: the weights by the names that an error gives them.

    Raises:
        InvalidInput: a weight holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        trained = tensor.requires_grad and torch.is_grad_enabled()
        if tensor.numel() == 0 or tensor.is_meta or (trained and not reads_content(tensor)):
            continue
        version = _version(tensor)
        if version is not None and _searched.get(tensor) == version and not in_debug_mode():
            continue
        low, high = tensor.detach().aminmax()
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            places = torch.isfinite(tensor.detach()).logical_not_().nonzero()
            raise InvalidInput(
                f"{name} holds {len(places)} values that are not finite, the first at "
                f"{tuple(places[0].tolist())}; finite weights are wanted: go back to a checkpoint "
                "from before, or mend those values"
            )
        if version is not None:
            _searched[tensor] = version


def not_negative(**tensors: Tensor) -> None:
    """Raise InvalidInput when a tensor holds NaN or a number below 0.

    As :func:`finite`, each version of a tensor is searched once: on a device the launch waits.

    Args:
        **tensors: by the names that an error gives them.

    Raises:
        InvalidInput: a number is below 0, or NaN.
    """
    for name, tensor in tensors.items():
        version = _version(tensor)
        if tensor.numel() == 0 or (version is not None and _positive.get(tensor) == version):
            continue
        least = float(tensor.detach().amin())  # NaN where one is
        if not least >= 0:
            raise InvalidInput(
                f"{name} holds {least}; codes are not negative, so 0 or more is wanted (clamp it)"
            )
        if version is not None:
            _positive[tensor] = version


def _version(tensor: Tensor) -> int | None:
    """Return how often torch saw a tensor change; None where it does not count."""
    return None if tensor.is_inference() else tensor._version


def under_mask(mask: Tensor) -> int:
    """Count the features under a mask.

    Each version of a mask is counted once: on a device the call waits for the answer, and could not
    be captured in a graph.

    Args:
        mask: bool ``[features]``.

    Returns:
        The number of features.
    """
    version = _version(mask)
    known = _counted.get(mask)
    if version is not None and known is not None and known[0] == version:
        return known[1]
    count = int(mask.sum())
    if version is not None:
        _counted[mask] = (version, count)
    return count


def stepped(*weights: Tensor) -> None:
    """Tell torch, and :func:`finite`, that a training step changed these tensors.

    The step writes past torch, so torch does not count the change by itself. What the step wrote is
    not searched for NaN: the next loss shows it.

    Args:
        *weights: the tensors that the step changed.
    """
    for tensor in weights:
        if not tensor.is_inference():
            torch.autograd.graph.increment_version(tensor)
            _searched[tensor] = tensor._version


def rising(name: str, numbers: Sequence[int], most: int) -> tuple[int, ...]:
    """Return whole numbers as a tuple; raise InvalidInput unless they rise within ``[1, most]``.

    Raises:
        InvalidInput: there is none, they do not rise, or one is out of range.
    """
    for number in numbers:
        whole(**{f"one of {name}": number})
    found = tuple(int(number) for number in numbers)
    rises = all(one < other for one, other in pairwise(found))
    if not found or not rises or found[0] < 1 or found[-1] > most:
        raise InvalidInput(
            f"{name} are {list(found)}; numbers that rise within [1, {most}], the number of "
            "features, are wanted"
        )
    return found
