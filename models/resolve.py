"""From names and globs to sites with their widths."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from isogloss.errors import InvalidInput
from isogloss.models.hooks import capture, evaluating
from isogloss.models.sites import Site, match_paths, site_names

Example = Tensor | tuple[object, ...] | Mapping[str, object]


def resolve_sites(
    module: nn.Module, patterns: Sequence[str], *, example: Example | None = None
) -> tuple[Site, ...]:
    """Find the sites that names or globs mean, with their widths.

    Names are paths of submodules: Hugging Face's (``encoder.layer.3``, ``h.3``), TransformerLens'
    hook points (``blocks.3.hook_resid_post``), anything in ``module.named_modules()``. In a glob
    ``*`` stays within one component and ``**`` crosses dots: ``encoder.layer.*`` is every layer.

    The width is seen in one forward pass over ``example``, or over two tokens when the module takes
    ``input_ids``; otherwise it is read from the submodule's own attributes.

    Args:
        module: any ``torch.nn.Module``.
        patterns: names or globs; the sites come in this order, each once.
        example: an input: a tensor, a tuple of arguments or a mapping of keyword arguments.

    Raises:
        UnknownSite: a pattern matches nothing; the message lists the nearest names.
        InvalidInput: a width cannot be told, or a submodule gives no ``[batch, tokens, ...]``
            tensor.
    """
    site_names(patterns)
    names = list(dict.fromkeys(name for p in patterns for name in match_paths(module, p)))
    if example is None and "input_ids" in forward_parameters(module):
        example = {"input_ids": torch.zeros(1, 2, dtype=torch.int64, device=device_of(module))}
    if example is None:
        return tuple(Site(name=name, width=_declared_width(module, name)) for name in names)
    with torch.inference_mode(), evaluating(module), capture(module, names) as seen:
        if isinstance(example, Tensor):
            seen.run(example)
        elif isinstance(example, tuple):
            seen.run(*example)
        else:
            seen.run(**example)
        return tuple(Site(name=name, width=row_width(seen[name], name)) for name in names)


def row_width(output: Tensor, name: str) -> int:
    """Return the numbers per token of a site's output ``[batch, tokens, ...]``.

    Raises:
        InvalidInput: the output has fewer dimensions, or no floating-point numbers.
    """
    if output.ndim < 3 or not output.is_floating_point():
        raise InvalidInput(
            f"site {name!r} gives {output.dtype} {tuple(output.shape)}; wanted floating-point "
            "[batch, tokens, width]; choose a submodule that works token by token"
        )
    return math.prod(output.shape[2:])


def forward_parameters(module: nn.Module) -> frozenset[str]:
    """Return the names of the arguments that the module's forward pass takes."""
    return frozenset(inspect.signature(module.forward).parameters)


def device_of(module: nn.Module) -> torch.device:
    """Return where the module's parameters are; the CPU when it has none."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _declared_width(module: nn.Module, name: str) -> int:
    found: object = module.get_submodule(name)
    while isinstance(found, nn.Sequential) and len(found):
        found = found[-1]
    for attribute in ("out_features", "embedding_dim", "normalized_shape"):
        value: object = getattr(found, attribute, None)
        if isinstance(value, tuple) and value:
            value = cast("tuple[object, ...]", value)[-1]
        if isinstance(value, int):
            return value
    raise InvalidInput(
        f"the width of site {name!r} ({type(found).__name__}) cannot be told without running the "
        "module; pass example=, an input for one forward pass"
    )
