"""The mode in which a live model runs: training or evaluation, and how much dropout.

Rows with dropout are not rows without it. A recording holds one kind, that of its first pass, which
its provenance names; passes in the other mode are left out.
"""

from collections.abc import Mapping
from typing import cast

from torch import nn

from isogloss.errors import InvalidInput


class ModelMode:
    """Watches the mode of a module."""

    def __init__(self, module: nn.Module, recorded: Mapping[str, str] | None) -> None:
        """Begin before the first pass.

        Args:
            module: the live model.
            recorded: provenance of the recording; None where it does not exist yet.
        """
        self._module = module
        self._first: dict[str, str] | None = None
        if recorded is not None and "mode" in recorded:
            self._first = {key: recorded.get(key, "") for key in ("mode", "dropout")}

    def seen(self, *, is_training: bool) -> Mapping[str, str]:
        """Return ``mode`` and ``dropout`` of the recording.

        Args:
            is_training: the mode of a pass, which is the recording's where it has none yet.
        """
        if self._first is None:
            share = dropout(self._module) if is_training else 0.0
            self._first = {"mode": _mode(is_training), "dropout": f"{share:g}"}
        return self._first

    def check(self, *, is_training: bool) -> None:
        """Raise an error for a pass in another mode than the recording's.

        Args:
            is_training: the mode of the pass.

        Raises:
            InvalidInput: the modes differ.
        """
        found, wanted = _mode(is_training), self.seen(is_training=is_training)["mode"]
        if found != wanted:
            raise InvalidInput(
                f"the pass ran in {found} mode and the recording holds passes in {wanted} mode: "
                "record it under another id"
            )


def _mode(is_training: bool) -> str:
    return "train" if is_training else "eval"


def dropout(module: nn.Module) -> float:
    """Return the largest dropout probability in a module.

    Seen are layers of :mod:`torch.nn`, and numbers that a submodule keeps under a name with
    ``dropout`` in it, as those do that call :func:`torch.nn.functional.dropout`.
    """
    found = [0.0]
    for child in module.modules():
        if isinstance(child, nn.modules.dropout._DropoutNd):
            found.append(float(child.p))
        for name, value in cast("Mapping[str, object]", vars(child)).items():
            if "dropout" in name and isinstance(value, float) and 0 <= value <= 1:
                found.append(value)
    return max(found)
