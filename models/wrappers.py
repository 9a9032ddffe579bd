"""From what people hold to the module that runs: loaded, compiled, distributed, traced models."""

from dataclasses import dataclass
from typing import cast

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from isogloss.errors import InvalidInput
from isogloss.models.tokens import Tokenizer
from isogloss.short_repr import short_repr

_OF_OTHERS = frozenset(
    # wrappers of libraries that need not be installed, by the name of their class
    {"OptimizedModule", "FullyShardedDataParallel", "DeepSpeedEngine", "_FabricModule"}
)
_TRACING = frozenset({"Envoy", "NNsight"})


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A live module with the tokenizer that belongs to it."""

    module: nn.Module
    """The model; :func:`isogloss.models.load_model` gives it in evaluation mode."""
    tokenizer: Tokenizer | None = None
    """Its tokenizer; None: documents are given as token ids."""
    name: str
    """Name of the model, such as its hub id."""
    revision: str = ""
    """Identifies the weights: a commit, a package and hash, or a hash over samples of their files.
    """

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidInput("a model's name is empty; say what the model is called")


def unwrapped(model: object) -> nn.Module:
    """Return the module inside of what people hold a model in.

    These are what ``load_model`` gives, and wrappers that pass their inputs on to a module:
    ``torch.compile(module)``, ``DataParallel``, ``DistributedDataParallel``, the sharded
    and the engine wrappers of FSDP 1, DeepSpeed and Lightning Fabric, and nnsight's models. Sites
    are named by the paths of the module inside, so that a wrapped model has the sites of the bare
    one, and its passes are seen whether the loop calls the wrapper or the module.

    Args:
        model: a module, a :class:`LoadedModel`, or an object of nnsight around a module.

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


def _inside(model: object) -> nn.Module | None:
    names = {kind.__name__ for kind in type(model).__mro__}
    if isinstance(model, LoadedModel):
        inside = model.module
    elif names & _TRACING and not isinstance(model, nn.Module):
        # an envoy answers every attribute, so that the one wanted is taken from its own fields
        inside = cast("object", vars(model).get("_module"))
    elif isinstance(model, DataParallel | DistributedDataParallel) or names & _OF_OTHERS:
        inside = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
    else:
        return None
    return inside if isinstance(inside, nn.Module) else None
