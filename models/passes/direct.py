"""Passes of models whose own methods call ``forward`` directly, where no hook of torch runs.

TransformerLens does so: ``run_with_cache`` and ``generate`` call ``self.forward``.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import cast

from torch import nn

_CLASSES = frozenset({"HookedRootModule", "TransformerBridge"})

_Begins = Callable[[nn.Module, tuple[object, ...], Mapping[str, object]], None]
_Ends = Callable[[nn.Module, tuple[object, ...], object], None]


def calls_forward_itself(module: nn.Module) -> bool:
    """Return whether methods of the module's class run passes past the hooks."""
    return any(kind.__name__ in _CLASSES for kind in type(module).__mro__)


class _Forward:
    """Stands for a module's ``forward``; a copy of the module gets its own back."""

    def __init__(self, module: nn.Module, begins: _Begins, ends: _Ends, fails: _Ends) -> None:
        self._module, self._begins, self._ends, self._fails = module, begins, ends, fails
        self.__wrapped__ = module.forward  # what inspect.signature looks at

    def __call__(self, *args: object, **kwargs: object) -> object:
        self._begins(self._module, args, kwargs)
        try:
            output = self.__wrapped__(*args, **kwargs)
        except BaseException:
            self._fails(self._module, args, None)
            raise
        self._ends(self._module, args, output)
        return output

    def __deepcopy__(self, memo: dict[int, object]) -> object:
        copied = memo.get(id(self._module), self._module)
        return MethodType(type(self._module).forward, copied)


@contextmanager
def around_forward(
    module: nn.Module, begins: _Begins, ends: _Ends, fails: _Ends
) -> Generator[None]:
    """Call functions before and behind each pass of a module, however it is started.

    Args:
        module: the module; its ``forward`` is as before afterwards.
        begins: called with the module and the arguments.
        ends: called with the module, the arguments by position and the output; not after an error.
        fails: called after an error with the module, the arguments by position and None.
    """
    fields = cast("dict[str, object]", vars(module))
    before = fields.get("forward")
    fields["forward"] = _Forward(module, begins, ends, fails)
    try:
        yield
    finally:
        if before is None:
            fields.pop("forward", None)
        else:
            fields["forward"] = before
