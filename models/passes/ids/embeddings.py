"""The embeddings in a model, and which of them may be of tokens."""

from collections.abc import Callable
from typing import cast

from torch import nn

from isogloss.models.passes.ids.stacks import is_of_library
from isogloss.models.passes.names import is_feature_table


def embeddings(module: nn.Module) -> dict[nn.Module, tuple[str, bool]]:
    """Return the embeddings in a model: their paths, and whether they may be of tokens.

    Those are not whose name, or the name of their class, calls positions, types and the like; nor
    are those of a model of transformers, but the one that it names.
    """
    found: dict[nn.Module, tuple[str, bool]] = {}
    others: set[nn.Module] = set()
    for path, child in module.named_modules():
        if _is_embedding(child):
            found[child] = path, not is_feature_table(path, type(child).__name__)
        if is_of_library(child) and (told := _asked(child)) is not None:
            inside = {one for one in child.modules() if _is_embedding(one)}
            others |= inside - set(told.modules()) - _asked_within(child)
    return {child: (path, may and child not in others) for child, (path, may) in found.items()}


def _asked_within(model: nn.Module) -> set[nn.Module]:
    within = (_asked(one) for one in model.modules() if hasattr(one, "get_input_embeddings"))
    return {part for told in within if told is not None for part in told.modules()}


def _asked(model: nn.Module) -> nn.Module | None:
    get = cast("Callable[[], object]", model.get_input_embeddings)
    try:
        told = get()
    except Exception:  # of a model that has none
        return None
    return told if isinstance(told, nn.Module) else None


def _is_embedding(module: nn.Module) -> bool:
    if isinstance(module, nn.Embedding):
        return True
    is_leaf = next(module.children(), None) is None
    named = "embed" in type(module).__name__.lower() and not isinstance(module, nn.EmbeddingBag)
    return named and is_leaf and next(module.parameters(), None) is not None
