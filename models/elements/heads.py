"""Where the heads of an attention module are: queries, keys, values, what they give, patterns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from isogloss.errors import InvalidInput
from isogloss.models.elements.views import View, block, interleaved, split_heads
from isogloss.models.sites import at_path, paths

HeadPart = Literal["q", "k", "v", "z", "pattern"]
PARTS: tuple[HeadPart, ...] = ("q", "k", "v", "z", "pattern")

_SEPARATE = (
    ("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"), ("query_proj", "key_proj", "value_proj"),
)  # fmt: skip
_FUSED = ("c_attn", "query_key_value", "qkv_proj", "Wqkv")
_OUT = ("o_proj", "out_proj", "c_proj", "dense", "out_lin", "o", "Wo", "out")
_POINTS: Mapping[HeadPart, str] = {part: f"hook_{part}" for part in PARTS}
_COUNTS = ("n_heads", "num_heads", "num_attention_heads", "n_head")
_WIDTHS = ("head_dim", "attention_head_size", "head_size")
_INTERLEAVED = ("gpt_neox", "bloom", "gpt_neox_japanese")
_BRIDGED = "_original_component"  # what TransformerLens 4 wraps: the wrapper has the hook points


@dataclass(frozen=True, kw_only=True)
class PartSource:
    """Where a part of the heads is read: a submodule's output or input, and the view of it."""

    path: str
    """Below the attention module; empty: that itself."""
    is_input: bool = False
    """Whether its input is read, not its output."""
    view: View | None = None
    """To ``[batch, tokens, heads, head width]``; None: the tensor is in heads already."""


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The heads of one attention module."""

    path: str
    """Of the attention module in the model."""
    count: int
    """Heads that have queries."""
    key_count: int
    """Heads that have keys and values: fewer where several share one."""
    sources: Mapping[HeadPart, PartSource]
    """Where each part is; without ``pattern`` where it is seen within the forward pass."""

    def of(self, part: HeadPart) -> int:
        """Return how many heads a part has."""
        return self.key_count if part in ("k", "v") else self.count

    def shared(self, head: int, part: HeadPart) -> int:
        """Return the index of a head in a part: several heads may share keys and values."""
        return head * self.of(part) // self.count


def heads_of(root: nn.Module, path: str) -> Heads | None:
    """Return the heads of the attention module at a path; None: it is not one that is known.

    Known are those with hook points named as TransformerLens does (``hook_q`` ... ``hook_pattern``)
    and those of transformers with projections to queries, keys and values, in one or in three.

    Args:
        root: the model.
        path: of a submodule.

    Raises:
        InvalidInput: the submodule projects to queries, keys and values in a way that is not known.
    """
    module = at_path(root, path)
    if module is None:
        return None
    points = [name for name in _POINTS.values() if name in module._modules]
    if "hook_pattern" in points and "hook_z" in points:
        count = _count(module)
        if count is None:
            return None
        told: dict[HeadPart, PartSource] = {
            part: PartSource(path=name) for part, name in _POINTS.items() if name in points
        }
        return Heads(path=path, count=count, key_count=_key_count(module, count), sources=told)
    for names in _SEPARATE:
        if all(_out_width(module, name) for name in names):
            return _separate(module, path, names)
    for name in _FUSED:
        if _out_width(module, name):
            return _fused(module, path, name, _kind(module) or _kind(root))
    return None


def attentions(root: nn.Module) -> tuple[Heads, ...]:
    """Return the heads of each attention module that is known, in the model's order."""
    outer = (path for path in paths(root) if _BRIDGED not in path.split("."))
    found = (_heads_if_known(root, path) for path in outer)
    return tuple(heads for heads in found if heads is not None)


def attention_below(root: nn.Module, path: str) -> Heads | None:
    """Return the heads of the one attention module at or below a path, such as a layer's.

    Args:
        root: the model.
        path: of a layer, or of the attention module.

    Raises:
        InvalidInput: there are several, as in a decoder's layer; name one.
    """
    if (own := heads_of(root, path)) is not None:
        return own
    found = [heads for heads in attentions(root) if heads.path.startswith(f"{path}.")]
    if len(found) > 1:
        raise InvalidInput(
            f"{path!r} has {len(found)} attention modules: {', '.join(h.path for h in found)}; "
            "name one of them"
        )
    return found[0] if found else None


def _heads_if_known(root: nn.Module, path: str) -> Heads | None:
    try:
        return heads_of(root, path)
    except InvalidInput:
        return None


def _separate(module: nn.Module, path: str, names: tuple[str, str, str]) -> Heads | None:
    widths = [_out_width(module, name) or 0 for name in names]
    count = _count(module)
    width = _number(module, _WIDTHS) or (widths[0] // count if count else None)
    count = count or (widths[0] // width if width else None)
    if not count or not width or widths[0] != count * width or widths[1] % width:
        return None
    key_count = widths[1] // width
    views = (split_heads(count, width), *[split_heads(key_count, width)] * 2)
    sources: dict[HeadPart, PartSource] = {
        part: PartSource(path=name, view=view)
        for part, name, view in zip(PARTS[:3], names, views, strict=True)
    }
    sources["z"] = _mixed(module, count, widths[2] // key_count)
    if getattr(module._modules.get(_BRIDGED), "accepts_pattern_fn", False):
        sources["pattern"] = PartSource(path="hook_pattern")
    return Heads(path=path, count=count, key_count=key_count, sources=sources)


def _fused(module: nn.Module, path: str, name: str, kind: str) -> Heads | None:
    whole, count = _out_width(module, name) or 0, _count(module)
    if count is None:
        return None
    width = _number(module, _WIDTHS) or whole // (3 * count)
    key_count = _key_count(module, count)
    sizes = (count * width, key_count * width, key_count * width)
    if whole != sum(sizes) or (name == "query_key_value" and kind not in _INTERLEAVED):
        raise InvalidInput(
            f"{path}.{name} gives {whole} numbers for {count} heads of {width}: how {kind or 'it'} "
            "lays queries, keys and values out is not known; name a submodule's output or input"
        )
    sources: dict[HeadPart, PartSource] = {}
    start = 0
    for which, (part, size) in enumerate(zip(PARTS[:3], sizes, strict=True)):
        view = block(start, start + size).then(split_heads(size // width, width))
        if name == "query_key_value":
            view = interleaved(count, width, which)
        sources[part] = PartSource(path=name, view=view)
        start += size
    sources["z"] = _mixed(module, count, width)
    return Heads(path=path, count=count, key_count=key_count, sources=sources)


def _mixed(module: nn.Module, count: int, width: int) -> PartSource:
    """Return where what the heads give is: what the projection out takes, or the module gives."""
    view = split_heads(count, width)
    for name in _OUT:
        if name in module._modules:
            return PartSource(path=name, is_input=True, view=view)
    return PartSource(path="", view=view)


def _kind(module: nn.Module) -> str:
    return str(getattr(getattr(module, "config", None), "model_type", ""))


def _count(module: nn.Module) -> int | None:
    return _number(module, _COUNTS)


def _key_count(module: nn.Module, count: int) -> int:
    return _number(module, ("num_key_value_heads", "n_key_value_heads")) or count


def _number(module: nn.Module, names: tuple[str, ...]) -> int | None:
    """Return a positive number of a module or else of its configuration."""
    for holder in (module, getattr(module, "config", None), getattr(module, "cfg", None)):
        for name in names:
            value: object = None if holder is None else getattr(holder, name, None)
            if isinstance(value, int) and value > 0:
                return value
    return None


def _out_width(module: nn.Module, name: str) -> int | None:
    """Return the numbers that a projection gives; None: there is no such projection."""
    projection = module._modules.get(name)
    if projection is None:
        return None
    for attribute in ("out_features", "nf"):  # torch's linear map, and transformers' Conv1D
        value: object = getattr(projection, attribute, None)
        if isinstance(value, int):
            return value
    return None
