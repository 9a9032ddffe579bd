"""Attention patterns of heads on one text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.attention.prompts import Text, read_prompt
from isogloss.models.elements.heads import Heads, attentions
from isogloss.models.hooks import capture, evaluating
from isogloss.models.wrappers import LoadedModel, unwrapped

_NAMED = re.compile(r"(\d+)\.(\d+)")
_MOST_HELD = 1 << 28  # numbers of patterns: 1 GiB
_LAYER = re.compile(r"(.+\.\d+)\..+")


@dataclass(frozen=True, kw_only=True, order=True)
class Head:
    """A head of a model."""

    layer: int
    """Place of its attention module among the model's, from 0."""
    head: int
    """Its place among the module's heads, from 0."""

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionPatterns:
    """What some heads attend to on a text."""

    model: str
    """Name of the model."""
    tokens: tuple[str, ...]
    """Of the text, special ones among them."""
    heads: tuple[Head, ...]
    """Whose they are."""
    values: NDArray[np.float32]
    """Share of each key in each query's attention, ``[heads, queries, keys]``."""


def read_head(name: str) -> Head:
    """Read a head as people write it: ``18.6`` is head 6 of layer 18.

    Args:
        name: layer and head, each from 0.

    Raises:
        InvalidInput: it is not of that form.
    """
    found = _NAMED.fullmatch(name)
    if found is None:
        raise InvalidInput(f"head {name!r} is not of the form LAYER.HEAD, such as 18.6")
    return Head(layer=int(found[1]), head=int(found[2]))


def layers_of(model: LoadedModel) -> tuple[Heads, ...]:
    """Return the attention modules of a model, in order.

    Raises:
        InvalidInput: there is none whose heads are known.
    """
    found = attentions(unwrapped(model.module))
    if not found:
        raise InvalidInput(
            f"{model.name!r} has no attention module whose heads are known: see "
            "models/elements/README.md for those that are"
        )
    return found


def layer_sites(model: LoadedModel) -> tuple[str, ...]:
    """Return the paths of a model's layers: what holds each attention module, in order.

    Raises:
        InvalidInput: the model has no attention module whose heads are known.
    """
    found = [(_LAYER.fullmatch(one.path), one.path) for one in layers_of(model)]
    return tuple(dict.fromkeys(path if layer is None else layer[1] for layer, path in found))


def head_counts(model: LoadedModel) -> tuple[int, ...]:
    """Return how many heads each layer of a model has.

    Raises:
        InvalidInput: the model has no attention module whose heads are known.
    """
    return tuple(one.count for one in layers_of(model))


def check_heads(layers: Sequence[Heads], heads: Sequence[Head]) -> None:
    """Refuse heads that a model does not have.

    Args:
        layers: the model's.
        heads: the wanted ones.

    Raises:
        InvalidInput: there is no such layer or head, one is named twice, or none is given.
    """
    if not heads:
        raise InvalidInput("no head was given; name at least one, such as 0.0")
    if twice := sorted({str(head) for head in heads if list(heads).count(head) > 1}):
        raise InvalidInput(f"heads {', '.join(twice)} are named twice; name each once")
    for head in heads:
        if not 0 <= head.layer < len(layers):
            raise InvalidInput(f"head {head}: there are layers 0 to {len(layers) - 1}")
        if not 0 <= head.head < layers[head.layer].count:
            last = layers[head.layer].count - 1
            raise InvalidInput(f"head {head}: layer {head.layer} has heads 0 to {last}")


def check_finite(site: str, values: Tensor) -> None:
    """Refuse patterns that hold NaN: what was drawn or scored of them would say nothing.

    Args:
        site: whose they are.
        values: of a pass.

    Raises:
        InvalidInput: a number is not finite.
    """
    if not values.isfinite().all():
        raise InvalidInput(
            f"{site} holds numbers that are not finite: the model overflows on this text; load it "
            "in float32, or choose another text"
        )


def attention_patterns(
    model: LoadedModel, text: Text, heads: Sequence[Head] | None = None
) -> AttentionPatterns:
    """Read what heads attend to on a text, in one pass.

    Args:
        model: module and tokenizer.
        text: a text, or token ids.
        heads: which; None: all of the model.

    Raises:
        InvalidInput: there is no such head, one is named twice, the text is empty or longer than
            the model's context, or so long that the patterns would take more than 1 GiB; the model
            has no tokenizer for it, or its patterns are not finite.
    """
    layers = layers_of(model)
    if heads is None:
        heads = [Head(layer=i, head=j) for i, one in enumerate(layers) for j in range(one.count)]
    check_heads(layers, heads)
    prompt = read_prompt(model, text)
    root = unwrapped(model.module)
    held = sum(layers[i].count for i in {head.layer for head in heads}) * len(prompt.ids) ** 2
    if held > _MOST_HELD:
        raise InvalidInput(
            f"patterns of {len(prompt.ids)} tokens in the layers of {len(heads)} heads are "
            f"{4 * held:,} bytes, up to {4 * _MOST_HELD:,} are held: name heads of fewer layers, "
            "or give a shorter text"
        )
    sites = {i: f"{layers[i].path}.heads.pattern" for i in sorted({head.layer for head in heads})}
    with torch.no_grad(), evaluating(root), capture(root, list(sites.values())) as seen:
        seen.run(prompt.ids[None])
        for site in sites.values():
            check_finite(site, seen[site])
    found = [seen[sites[head.layer]][0, head.head].float().cpu().numpy() for head in heads]
    return AttentionPatterns(
        model=model.name, tokens=prompt.tokens, heads=tuple(heads), values=np.stack(found)
    )
