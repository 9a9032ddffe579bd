"""What a model changes in itself while it runs, put back between passes.

Some models go on with what the longest or shortest text so far left: dynamic rotary positions keep
the frequencies of the longest text, BigBird replaces its attention once a text is short. Their rows
would depend on the texts before.
"""

from collections.abc import MutableMapping
from typing import cast

import torch
from torch import Tensor, nn


class ModelState:
    """The plain attributes, buffers and submodules of a model at one moment."""

    def __init__(self, module: nn.Module) -> None:
        """Remember what the model holds now; nothing is copied.

        Args:
            module: the model.
        """
        self._held: list[tuple[MutableMapping[str, object], str, object]] = []
        for child in module.modules():
            if isinstance(child, torch.jit.ScriptModule):
                continue
            own = cast("MutableMapping[str, object]", vars(child))
            for name, value in own.items():
                is_plain = value is None or isinstance(value, bool | int | float | str)
                if is_plain and not name.startswith("_"):
                    self._held.append((own, name, value))
            for name in ("_buffers", "_modules"):
                inside = cast("MutableMapping[str, object]", own[name])
                self._held += [(inside, key, value) for key, value in inside.items()]

    def restore(self) -> None:
        """Put back what the model replaced since. What it made anew for later passes stays."""
        for mapping, name, value in self._held:
            now = mapping.get(name)
            if now is not value and not (value is None or _is_away(now) or _is_away(value)):
                mapping[name] = value


def _is_away(value: object) -> bool:
    """Return whether a tensor is kept elsewhere while it is not used (accelerate's offload)."""
    return isinstance(value, Tensor) and value.is_meta
