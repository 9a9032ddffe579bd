"""Run a module so that hooks see each of its submodules: not compiled, not fused by torch."""

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

_FUSED = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)


class _Setting:
    """A setting of the process: made by the first that needs it, undone by the last."""

    def __init__(self, make: Callable[[], Callable[[], None]]) -> None:
        self._make = make
        self._undo: Callable[[], None] | None = None
        self._users = 0
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Generator[None]:
        with self._lock:
            if self._undo is None:
                self._undo = self._make()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._undo()
                    self._undo = None


def _eager() -> Callable[[], None]:
    stance = torch.compiler.set_stance("force_eager")
    leave = cast("Callable[..., None]", stance.__exit__)
    return lambda: leave(None, None, None)


def _unfused() -> Callable[[], None]:
    mha = torch.backends.mha
    was = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    return lambda: mha.set_fastpath_enabled(was)


_EAGER, _UNFUSED = _Setting(_eager), _Setting(_unfused)


@contextmanager
def hooked_execution(module: nn.Module) -> Generator[None]:
    """Let hooks on submodules see what they would see of a plain module, while this is entered.

    Compiled code does not know hooks that were set after it was made. So what is compiled runs
    eagerly meanwhile, in the whole process, and is as before afterwards: its compiled code is kept.
    Torch's own encoder packs padded texts in evaluation without gradients, and fails where its
    layers have hooks; it takes its ordinary way meanwhile.

    Nothing of the compiler is imported: where it was not imported yet, nothing is compiled.

    Args:
        module: the module whose submodules have hooks.
    """
    with _eager_execution(), _unfused_execution(module):
        yield


def compiler_is_loaded() -> bool:
    """Return whether anything can have been compiled in this process."""
    return "torch._dynamo" in sys.modules


@contextmanager
def _eager_execution() -> Generator[None]:
    if not compiler_is_loaded():
        yield
        return
    with _EAGER.held():
        yield


@contextmanager
def _unfused_execution(module: nn.Module) -> Generator[None]:
    if not any(isinstance(child, _FUSED) for child in module.modules()):
        yield
        return
    with _UNFUSED.held():
        yield
