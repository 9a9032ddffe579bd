"""Attention patterns of models that compute them within one forward function."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from isogloss.errors import InvalidInput

_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)
_FUSED = (functional.scaled_dot_product_attention,)


class PatternMode(TorchFunctionMode):
    """Finds the pattern within an attention's forward pass, and may replace it.

    What transformers' eager attention drops out is the pattern: the softmax is done, sinks are cut
    off, and values are mixed by it next.
    """

    def __init__(self, name: str, change: Callable[[Tensor], Tensor]) -> None:
        """Begin a forward pass.

        Args:
            name: of the site, for messages.
            change: from the pattern ``[batch, heads, queries, keys]`` to what takes its place.
        """
        super().__init__()
        self._name, self._change = name, change
        self._has_softmax = False
        self.found = 0

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Pass an operation of torch on, with the pattern changed."""
        kwargs = kwargs or {}
        if func in _FUSED:
            raise InvalidInput(
                f"site {self._name!r}: this attention is computed by a fused kernel, which shows "
                "no pattern; load the model with attn_implementation='eager'"
            )
        if func is functional.dropout and self._has_softmax:
            dropped = args[0] if args else kwargs.get("input")
            if isinstance(dropped, Tensor) and dropped.ndim == 4:
                self._has_softmax = False
                self.found += 1
                changed = self._change(dropped)
                rest = {key: value for key, value in kwargs.items() if key != "input"}
                return func(changed, *args[1:], **rest)
        if func in _SOFTMAX:
            self._has_softmax = True
        return func(*args, **kwargs)

    def require_one(self) -> None:
        """Refuse a pass in which there was no pattern, or more than one.

        Raises:
            InvalidInput: so it was.
        """
        if self.found != 1:
            raise InvalidInput(
                f"site {self._name!r}: {self.found} patterns were computed in one pass of this "
                "attention, wanted 1; name the submodule that gives the pattern, where there is one"
            )
