"""Where a model's residual stream is written and read, found by one pass and checked by numbers."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from isogloss.errors import InvalidInput
from isogloss.models.attention.patterns import layer_sites, layers_of
from isogloss.models.circuits.edges import Edges, EdgeWriter, HeadRead, StreamReader
from isogloss.models.elements.containers import first_tensor
from isogloss.models.elements.heads import HeadPart, Heads, PartSource
from isogloss.models.execution import hooked_execution
from isogloss.models.hooks import evaluating
from isogloss.models.sites import submodule
from isogloss.models.wrappers import LoadedModel, unwrapped

_READ: tuple[HeadRead, ...] = ("q", "k", "v")


@dataclass(frozen=True, kw_only=True)
class Norm:
    """What stands between the residual stream and a reader."""

    site: str
    """Where the stream is seen: the norm's input, or the reader's own where there is no norm."""
    path: str | None
    """Of the norm; None: there is none."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Where one layer reads and writes."""

    heads: Heads
    """Of its attention."""
    attention_norm: Norm
    """Before queries, keys and values."""
    mlp: str | None
    """Path of its MLP; None: it has none."""
    mlp_norm: Norm | None
    """Before the MLP."""
    is_parallel: bool
    """Whether the MLP reads what the attention reads, and not what that has added."""

    @property
    def out(self) -> str:
        """Path of the projection that mixes what the heads give."""
        return f"{self.heads.path}.{self.heads.sources['z'].path}"


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualStream:
    """The layers of a model whose residual stream is the sum of what they write."""

    root: nn.Module
    """The model."""
    paths: tuple[str, ...]
    """Of the layers."""
    layers: tuple[Layer, ...]
    """Where each reads and writes."""
    edges: Edges
    """Between all writers and readers."""

    def writer(self, layer: int, head: int | None = None) -> int:
        """Return the number of a writer."""
        return self.edges.writers.index(EdgeWriter(layer=layer, head=head))

    def readers(self, layer: int, part: str) -> list[int]:
        """Return the numbers of the readers of a part of a layer, in order of heads."""
        found = enumerate(self.edges.readers)
        return [j for j, one in found if one.layer == layer and one.part == part]


def residual_stream(model: LoadedModel, ids: Tensor) -> ResidualStream:
    """Find where a model's layers read and write the residual stream, by one pass.

    What each layer adds is summed up and compared with what the next one reads: models in which a
    norm stands behind attention or MLP (Gemma 2 and 3, OLMo 2), or anything else between, are
    refused, since their stream is no sum of heads and MLPs.

    Args:
        model: a causal language model, of transformers or one made like them: attention with
            projections to queries, keys and values.
        ids: of a text, ``[texts, tokens]``; the first is read.

    Raises:
        InvalidInput: the model's layers are made in another way; the message says where.
    """
    root = unwrapped(model.module)
    paths, heads = layer_sites(model), layers_of(model)
    if len(paths) != len(heads):
        raise InvalidInput(
            f"{model.name!r} has {len(heads)} attention modules in {len(paths)} layers; circuits "
            "are found in models of one in each"
        )
    seen = _watch(root, paths, ids[:1])
    layers = [_layer(root, path, one, seen) for path, one in zip(paths, heads, strict=True)]
    layers = _checked(paths, layers, seen)
    return ResidualStream(root=root, paths=paths, layers=tuple(layers), edges=_edges(layers))


@dataclass(frozen=True)
class _Call:
    given: Tensor | None
    gave: Tensor | None


def _watch(root: nn.Module, paths: Sequence[str], ids: Tensor) -> dict[str, _Call]:
    """Return what each submodule of the layers took and gave: the very tensors."""
    seen: dict[str, _Call] = {}

    def watcher(name: str) -> Callable[..., None]:
        def after(
            module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: object
        ) -> None:
            given = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
            try:
                gave = first_tensor(output, name)
            except InvalidInput:
                gave = None
            seen[name] = _Call(given, gave)

        return after

    with ExitStack() as stack:
        stack.enter_context(hooked_execution(root))
        stack.enter_context(evaluating(root))
        for path in paths:
            for name, module in submodule(root, path).named_modules(prefix=path):
                hook = module.register_forward_hook(watcher(name), with_kwargs=True)
                stack.callback(hook.remove)
        with torch.no_grad():
            root(ids)
    return seen


def _layer(root: nn.Module, path: str, heads: Heads, seen: dict[str, _Call]) -> Layer:
    sources = [_projection(heads, part) for part in (*_READ, "z")]
    given = [seen[f"{heads.path}.{one.path}"].given for one in sources[:3]]
    if any(one is not given[0] for one in given):
        raise InvalidInput(f"{heads.path}: queries, keys and values read different things")
    children = [
        f"{path}.{name}"
        for name, module in submodule(root, path).named_children()
        if f"{path}.{name}" in seen and not isinstance(module, nn.Dropout | nn.Identity)
    ]
    attention = next(one for one in children if f"{heads.path}.".startswith(f"{one}."))
    out = seen[f"{heads.path}.{sources[3].path}"].gave
    if out is None or seen[attention].gave is None or not torch.equal(out, _gave(seen, attention)):
        raise InvalidInput(
            f"{attention} changes what its heads' projection gives; circuits are found where the "
            "heads' sum goes to the residual stream as it is"
        )
    others = [one for one in children if one != attention]
    used = {id(seen[one].given) for one in others} | {id(given[0])}
    writes = [
        one
        for one in others
        if seen[one].gave is not None
        and id(seen[one].gave) not in used
        and _gave(seen, one).shape == _gave(seen, path).shape
    ]
    if len(writes) > 1:
        raise InvalidInput(
            f"{path} has several parts beside attention that write: {writes}; where a norm stands "
            "behind attention or MLP, the stream is no sum of heads and MLPs: trace sites with "
            "isogloss.models.trace"
        )
    mlp = writes[0] if writes else None
    first = f"{heads.path}.{sources[0].path}"
    return Layer(
        heads=heads,
        attention_norm=_norm(others, given[0], first, seen),
        mlp=mlp,
        mlp_norm=None if mlp is None else _norm(others, seen[mlp].given, mlp, seen),
        is_parallel=False,
    )


def _projection(heads: Heads, part: HeadPart) -> PartSource:
    found = heads.sources.get(part)
    if found is None or not found.path or found.view is None or found.is_input != (part == "z"):
        raise InvalidInput(
            f"{heads.path} shows {part} at no projection: circuits are found in models of "
            "transformers (and those made like them); load the model with "
            "isogloss.models.load_model(name, causal=True)"
        )
    return found


def _norm(others: Sequence[str], given: Tensor | None, reader: str, seen: dict[str, _Call]) -> Norm:
    for one in others:
        if one != reader and seen[one].gave is given:
            return Norm(site=f"{one}.input", path=one)
    return Norm(site=f"{reader}.input", path=None)


def _gave(seen: dict[str, _Call], path: str) -> Tensor:
    return cast("Tensor", seen[path].gave)


def _checked(paths: Sequence[str], layers: Sequence[Layer], seen: dict[str, _Call]) -> list[Layer]:
    """Compare what each reader reads with the sum of what was written before it.

    Raises:
        InvalidInput: they differ by more than rounding.
    """
    found: list[Layer] = []
    stream = cast("Tensor", seen[paths[0]].given).double()
    for path, layer in zip(paths, layers, strict=True):
        _compare(stream, _at(layer.attention_norm, seen), len(paths), layer.heads.path)
        after = stream + _gave(seen, layer.out).double()
        is_parallel = False
        if layer.mlp is not None and layer.mlp_norm is not None:
            read = _at(layer.mlp_norm, seen)
            is_parallel = _differs(after, read, len(paths)) and not _differs(
                stream, read, len(paths)
            )
            _compare(stream if is_parallel else after, read, len(paths), layer.mlp)
            after = after + _gave(seen, layer.mlp).double()
        _compare(after, _gave(seen, path), len(paths), f"the end of {path}")
        stream = after
        found.append(replace(layer, is_parallel=is_parallel))
    return found


def _at(norm: Norm, seen: dict[str, _Call]) -> Tensor:
    return cast("Tensor", seen[norm.site.removesuffix(".input")].given)


def _differs(summed: Tensor, read: Tensor, layers: int) -> bool:
    # each of the 2 * layers additions rounds once, by half an eps of the largest partial sum; the
    # sums here are exact beside that, and twice the bound is allowed
    bound = 2 * layers * torch.finfo(read.dtype).eps * float(summed.abs().max().clamp(min=1))
    return bool((summed - read.double()).abs().max() > bound)


def _compare(summed: Tensor, read: Tensor, layers: int, where: str) -> None:
    if summed.shape != read.shape or _differs(summed, read, layers):
        raise InvalidInput(
            f"{where} does not read the sum of the embedding, heads and MLPs before it: a norm or "
            "another operation stands behind them, so that no edge can be cut by itself; trace "
            "sites with isogloss.models.trace"
        )


def _edges(layers: Sequence[Layer]) -> Edges:
    writers, readers = [EdgeWriter(layer=-1)], list[StreamReader]()
    before: list[int] = []
    for i, layer in enumerate(layers):
        heads, start = layer.heads, len(writers)
        for part in _READ:
            each = heads.count // heads.of(part)
            for first in range(0, heads.count, each):
                served = tuple(range(first, first + each))
                readers.append(StreamReader(layer=i, part=part, heads=served))
                before.append(start)
        writers += [EdgeWriter(layer=i, head=head) for head in range(heads.count)]
        if layer.mlp is not None:
            readers.append(StreamReader(layer=i, part="mlp"))
            before.append(start if layer.is_parallel else len(writers))
            writers.append(EdgeWriter(layer=i))
    readers.append(StreamReader(layer=len(layers), part="logits"))
    before.append(len(writers))
    exist = np.arange(len(writers))[:, None] < np.array(before)[None]
    return Edges(writers=tuple(writers), readers=tuple(readers), exist=exist)
