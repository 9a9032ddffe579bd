"""From names and globs to sites with their widths."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from isogloss.errors import InvalidInput, IsoglossError
from isogloss.models.elements.rows import refuse_pattern_name
from isogloss.models.hooks import capture, evaluating
from isogloss.models.passes.inputs import Signature
from isogloss.models.passes.layout import Layout, width_of
from isogloss.models.passes.names import ids_parameter
from isogloss.models.sites import Site, match_paths, site_names
from isogloss.models.wrappers import unwrapped
from isogloss.site_names import without_wrappers

Example = Tensor | tuple[object, ...] | Mapping[str, object]


def find_sites(module: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """Find the names of the sites that names or globs mean. Nothing is run.

    Args:
        module: any ``torch.nn.Module``, or a wrapper of one.
        patterns: names or globs, see :func:`resolve_sites`.

    Returns:
        The paths of submodules, in the order of the patterns, each once.

    Raises:
        UnknownSite: a pattern matches nothing; the message lists the nearest names.
    """
    site_names(patterns)
    root = unwrapped(module)
    return tuple(dict.fromkeys(name for p in patterns for name in _matched(root, p)))


def resolve_sites(
    module: nn.Module, patterns: Sequence[str], *, example: Example | None = None
) -> tuple[Site, ...]:
    """Find the sites that names or globs mean, with their widths.

    Names are paths of submodules: Hugging Face's (``encoder.layer.3``, ``h.3``), TransformerLens'
    hook points (``blocks.3.hook_resid_post``), anything in ``module.named_modules()``. In a glob
    ``*`` stays within one component and ``**`` crosses dots: ``encoder.layer.*`` is every layer.

    The width is seen in one forward pass over ``example``, or over two tokens when the module takes
    ``input_ids``; otherwise it is read from the submodule's own attributes. The pass is made in
    evaluation mode without gradients. :func:`find_sites` finds the names alone, and runs nothing.

    Args:
        module: any ``torch.nn.Module``, or a wrapper of one (compiled, distributed).
        patterns: names or globs; the sites come in this order, each once.
        example: an input: a tensor, a tuple of arguments or a mapping of keyword arguments.

    Raises:
        UnknownSite: a pattern matches nothing; the message lists the nearest names.
        InvalidInput: a width cannot be told, or a submodule gives no ``[batch, tokens, ...]``
            tensor.
    """
    names = find_sites(module, patterns)
    root = unwrapped(module)
    taken = forward_parameters(root)
    if example is None and "input_ids" in taken:
        two = torch.zeros(1, 2, dtype=torch.int64, device=device_of(root))
        example = {name: two for name in ("input_ids", "decoder_input_ids") if name in taken}
    if example is None:
        return tuple(Site(name=name, width=_declared_width(root, name)) for name in names)
    with torch.no_grad(), evaluating(root), capture(root, names) as seen:
        if isinstance(example, Tensor):
            seen.run(example)
        elif isinstance(example, tuple):
            seen.run(*example)
        else:
            seen.run(**example)
        sizes = _sizes(example)
        return tuple(_seen_site(root, name, seen[name], sizes) for name in names)


def document_sites(module: nn.Module, patterns: Sequence[str]) -> tuple[Site, ...]:
    """Find the sites of a model that reads token ids, whatever its forward pass calls them.

    As :func:`resolve_sites`; where neither the arguments nor the submodule tell a width, two tokens
    are given as the first argument, as documents will be.

    Args:
        module: the model, or a wrapper of one.
        patterns: names or globs.

    Raises:
        UnknownSite: a pattern matches nothing.
        InvalidInput: a submodule gives no ``[batch, tokens, ...]`` tensor, or the model wants more
            than token ids.
    """
    root = unwrapped(module)
    signature = Signature(root)
    is_told = signature.takes_ids or all(
        _width_attribute(root.get_submodule(name)) for name in find_sites(root, patterns)
    )
    if is_told:
        return resolve_sites(root, patterns)
    two, name = (
        torch.zeros(1, 2, dtype=torch.int64, device=device_of(root)),
        ids_parameter(signature),
    )
    try:
        return resolve_sites(root, patterns, example=two if name is None else {name: two})
    except IsoglossError:
        raise
    except Exception as error:
        takes = ", ".join(map(repr, signature.by_name)) or "nothing by name"
        raise InvalidInput(
            f"the model fails on two token ids ({type(error).__name__}: {error}); its forward pass "
            f"takes {takes}: documents are token ids, so record a part of it that reads such"
        ) from error


def _matched(root: nn.Module, pattern: str) -> list[str]:
    refuse_pattern_name(pattern)
    bare = without_wrappers(pattern)
    if bare != pattern and pattern.partition(".")[0] not in dict(root.named_children()):
        return match_paths(root, bare)
    return match_paths(root, pattern)


def _sizes(example: Example) -> tuple[int, int] | None:
    """Return the sequences and tokens of an example, as the first of its tensors has them."""
    values: Sequence[object] = (
        [example] if isinstance(example, Tensor) else list(
            example.values() if isinstance(example, Mapping) else example
        )
    )  # fmt: skip
    found = next((v for v in values if isinstance(v, Tensor) and v.ndim > 1), None)
    return None if found is None else (found.shape[0], found.shape[1])


def _seen_site(root: nn.Module, name: str, output: Tensor, sizes: tuple[int, int] | None) -> Site:
    width = row_width(output, name)
    if sizes is not None:
        layout = Layout(name, root)
        try:
            layout.see(output.shape, *sizes)
        except InvalidInput:  # a decoder's: the first tensor of the example tells nothing
            return Site(name=name, width=width)
        width = width_of(output.shape, *sizes)
    return Site(name=name, width=width)


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
    return width_of(output.shape, *output.shape[:2])


def forward_parameters(module: nn.Module) -> frozenset[str]:
    """Return the names of the arguments that the module's forward pass takes."""
    return Signature(module).names


def device_of(module: nn.Module) -> torch.device:
    """Return where the module's inputs go; the CPU when it has no parameters.

    Parameters that are kept elsewhere and come when they are used (accelerate's offload) say
    nothing; then the device is that on which their hooks run them.
    """
    hooks = (getattr(child, "_hf_hook", None) for child in module.modules())
    for part in (part for hook in hooks for part in (hook, *getattr(hook, "hooks", ()))):
        told = getattr(part, "execution_device", None)
        if told is not None:
            return torch.device(told)
    parameters = list(module.parameters())
    real = [parameter for parameter in parameters if not parameter.is_meta]
    return next((p.device for p in [*real, *parameters]), torch.device("cpu"))


def _declared_width(module: nn.Module, name: str) -> int:
    found = module.get_submodule(name)
    width = _width_attribute(found)
    if width is None:
        raise InvalidInput(
            f"the width of site {name!r} ({type(found).__name__}) cannot be told without running "
            "the module; pass example=, an input for one forward pass"
        )
    return width


def _width_attribute(module: nn.Module) -> int | None:
    found: object = module
    while isinstance(found, nn.Sequential) and len(found):
        found = found[-1]
    for attribute in ("out_features", "embedding_dim", "normalized_shape"):
        value: object = getattr(found, attribute, None)
        if isinstance(value, tuple) and value:
            value = cast("tuple[object, ...]", value)[-1]
        if isinstance(value, int):
            return value
    return None
