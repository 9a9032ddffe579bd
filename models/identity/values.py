"""The numbers of a parameter, also where they are not in memory whole."""

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn


def values_of(owner: nn.Module, name: str, parameter: Tensor) -> Tensor | None:
    """Return a parameter's numbers, also where accelerate keeps them elsewhere; None: not known.

    Args:
        owner: the module that has the parameter.
        name: its name there.
        parameter: the parameter; one that is sharded over processes is not here as a whole.
    """
    if hasattr(parameter, "placements"):
        return None
    if not parameter.is_meta:
        return parameter.detach()
    hook = getattr(owner, "_hf_hook", None)
    for part in (hook, *getattr(hook, "hooks", ())):
        kept = getattr(part, "weights_map", None)
        if isinstance(kept, Mapping):
            return cast("Mapping[str, Tensor]", kept)[name].detach()
    return None
