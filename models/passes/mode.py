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
        self._own = ""
        self._is_recorded = recorded is not None and "mode" in recorded
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
            InvalidInput: the modes differ, or how much dropout there is.
        """
        wanted = self.seen(is_training=is_training)
        share = wanted["dropout"]
        if is_training and self._is_recorded:
            self._own = self._own or f"{dropout(self._module):g}"
            share = self._own
        check_mode({"mode": _mode(is_training), "dropout": share}, wanted)


def check_mode(found: Mapping[str, str], recorded: Mapping[str, str]) -> None:
    """Raise an error where passes ran in another mode than those of a recording.

    Args:
        found: ``mode`` and ``dropout`` of the passes.
        recorded: provenance of the recording; one without a mode is of any.

    Raises:
        InvalidInput: the modes differ, or how much dropout there is.
    """
    mode, wanted = found.get("mode"), recorded.get("mode")
    if mode is None or wanted is None:
        return
    if mode != wanted:
        raise InvalidInput(
            f"the pass ran in {mode} mode and the recording holds passes in {wanted} mode: "
            "record it under another id"
        )
    if found.get("dropout", "") != recorded.get("dropout", ""):
        raise InvalidInput(
            f"the pass ran with a dropout of {found.get('dropout')} and the recording holds passes "
            f"with {recorded.get('dropout')}: record it under another id"
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
