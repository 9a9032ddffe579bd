"""From what people hold to the module that runs: compiled, distributed and traced models."""

from typing import cast

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from isogloss.errors import InvalidInput

_HELD = ("_orig_mod", "module", "_module")
_OF_OTHERS = frozenset(
    # wrappers of libraries that need not be installed, by the name of their class
    {"OptimizedModule", "FullyShardedDataParallel", "DeepSpeedEngine", "_FabricModule"}
)
_TRACING = frozenset({"Envoy", "NNsight"})


def unwrapped(model: object) -> nn.Module:
    """Return the module inside of wrappers that pass their inputs on to it.

    These are ``torch.compile(module)``, ``DataParallel``, ``DistributedDataParallel``, the sharded
    and the engine wrappers of FSDP 1, DeepSpeed and Lightning Fabric, and nnsight's models. Sites
    are named by the paths of the module inside, so that a wrapped model has the sites of the bare
    one, and its passes are seen whether the loop calls the wrapper or the module.

    Args:
        model: a module, or an object of nnsight around one.

    Returns:
        The innermost module.

    Raises:
        InvalidInput: there is no module.
    """
    found = model
    while (inside := _inside(found)) is not None:
        found = inside
    if not isinstance(found, nn.Module):
        raise InvalidInput(
            f"{type(model).__name__} is no torch.nn.Module and no known wrapper of one; give the "
            "module"
        )
    return found


def without_prefix(name: str) -> str:
    """Return a site's name without the components that wrappers put before it."""
    while name.partition(".")[0] in _HELD and "." in name:
        name = name.partition(".")[2]
    return name


def _inside(model: object) -> nn.Module | None:
    names = {kind.__name__ for kind in type(model).__mro__}
    if names & _TRACING and not isinstance(model, nn.Module):
        # an envoy answers every attribute, so that the one wanted is taken from its own fields
        inside = cast("object", vars(model).get("_module"))
    elif isinstance(model, DataParallel | DistributedDataParallel) or names & _OF_OTHERS:
        inside = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
    else:
        return None
    return inside if isinstance(inside, nn.Module) else None
