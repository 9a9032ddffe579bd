"""Arrays of numpy and tensors of torch alike, in a client that may have no torch."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, ShapeError

if TYPE_CHECKING:
    import torch

    RowsT = TypeVar("RowsT", NDArray[Any], torch.Tensor)
else:
    RowsT = TypeVar("RowsT")


@dataclass(frozen=True, slots=True)
class ArrayLike(Generic[RowsT]):
    """What a caller gave as an array, and how an answer becomes what the caller works with."""

    array: NDArray[np.generic]
    """The numbers."""
    back: Callable[[NDArray[np.generic]], RowsT]
    """Turns an array into what the caller gave: an array, or a tensor on the same device."""

    @staticmethod
    def of(name: str, given: RowsT) -> "ArrayLike[RowsT]":
        """Look at an argument.

        Args:
            name: of the argument, for error messages.
            given: an array or a tensor.

        Raises:
            ShapeError: it is neither.
            InvalidInput: it is a tensor that wants gradients.
        """
        if isinstance(given, np.ndarray):
            return ArrayLike(given, lambda array: cast("RowsT", array))
        torch = sys.modules.get("torch")  # who has a tensor has imported it
        if torch is None or not isinstance(given, torch.Tensor):
            raise ShapeError(
                f"{name} is a {type(given).__name__}; give an array of numpy or a tensor of torch"
            )
        tensor = cast("torch.Tensor", given)
        if tensor.requires_grad:
            raise InvalidInput(
                f"{name} wants gradients, which do not cross the wire: give {name}.detach(), or "
                "use the module that client.dictionary(...) returns"
            )
        device = tensor.device

        def back(array: NDArray[np.generic]) -> RowsT:
            return cast("RowsT", torch.from_numpy(array.copy()).to(device))

        here = tensor.cpu().contiguous()
        if here.dtype == torch.bfloat16:  # numpy has it from ml_dtypes alone
            return ArrayLike(here.view(torch.int16).numpy().view(ml_dtypes.bfloat16), back)
        return ArrayLike(here.numpy(), back)
