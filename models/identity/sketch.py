"""A sketch of a model's weights: some numbers of every tensor, whatever the tensors are called.

Names are not in it: wrappers, heads and libraries change them. Tensors of one shape are known by
their order among each other, which all of these keep.
"""

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isogloss.errors import InvalidInput, UnsupportedVersion
from isogloss.models.identity.values import values_of
from isogloss.models.wrappers import unwrapped

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

VERSION = 1
SAMPLES = 12
"""Numbers of each tensor."""
_KEPT = 128
"""Tensors of a sketch that is stored, spread evenly over those of each shape."""
_CODES = {torch.float32: "f", torch.float64: "f", torch.bfloat16: "b", torch.float16: "h"}
_WHOLE = {torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64}
_CENTRED = 1e-3
"""A mean of a row this small against its spread is none that training or rounding leaves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """Numbers of one tensor."""

    dtype: str
    """``f`` (float32 or wider), ``b`` (bfloat16), ``h`` (float16) or ``q`` (whole numbers)."""
    values: NDArray[np.float32]
    """``[12]``; NaN where another process has the number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightSketch:
    """Samples of a model's tensors."""

    tensors: Mapping[str, Mapping[int, Samples]]
    """By shape, then by place among the tensors of that shape."""
    counts: Mapping[str, int]
    """How many tensors there are of each shape."""
    folded: bool
    """Whether norms were folded into the weights, or these centred, as TransformerLens does."""
    unread: int
    """Tensors whose numbers are packed (4-bit weights), or not in memory."""
    adapted: bool
    """Whether adapters beside the weights change what they do."""

    def to_dict(self) -> dict[str, object]:
        """Return the sketch as JSON values: about 60 bytes a tensor, at most 10 KB."""
        kept = _spread(self.counts)
        groups: list[dict[str, object]] = []
        for shape, count in self.counts.items():
            chosen = {n: s for n, s in self.tensors[shape].items() if n in kept[shape]}
            numbers = np.concatenate([s.values for s in chosen.values()]) if chosen else np.empty(0)
            groups.append(
                {
                    "shape": shape,
                    "count": count,
                    "places": list(chosen),
                    "dtypes": "".join(s.dtype for s in chosen.values()),
                    "values": base64.b64encode(numbers.astype("<f4").tobytes()).decode(),
                }
            )
        flags = {"folded": self.folded, "unread": self.unread, "adapted": self.adapted}
        return {"version": VERSION, "groups": groups, **flags}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "WeightSketch":
        """Read what :meth:`to_dict` wrote.

        Raises:
            UnsupportedVersion: another release wrote it.
            InvalidInput: it is no sketch.
        """
        if values.get("version") != VERSION:
            raise UnsupportedVersion(
                f"a sketch of weights of version {values.get('version')!r}; this release reads "
                f"{VERSION}: upgrade isogloss"
            )
        try:
            groups = cast("Sequence[Mapping[str, object]]", values["groups"])
            return cls(
                tensors={str(group["shape"]): _read_group(group) for group in groups},
                counts={str(g["shape"]): int(cast("int", g["count"])) for g in groups},
                folded=values["folded"] is True,
                unread=int(cast("int", values["unread"])),
                adapted=values["adapted"] is True,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(f"not a sketch of weights ({error!r}); take one anew") from error


def weight_sketch(model: object) -> WeightSketch:
    """Take a sketch of a live model's weights. Nothing is run, and little is copied.

    Args:
        model: a module, or a wrapper of one. Of weights that are sharded over processes, what this
            process has is read.
    """
    module = unwrapped(model)
    tensors: dict[str, dict[int, Samples]] = defaultdict(dict)
    counts: dict[str, int] = defaultdict(int)
    unread, adapted = 0, False
    weights = _weights(module)
    if any(getattr(parameter, "_is_flat_param", False) for _, parameter in weights):
        # FSDP 1 holds several weights in a row, in pieces: which they are is not known here
        return WeightSketch(tensors={}, counts={}, folded=False, unread=len(weights), adapted=False)
    for path, parameter in weights:
        adapted |= "lora_" in path and bool(torch.count_nonzero(parameter.detach()))
        shape = "x".join(map(str, parameter.shape))
        owner, _, name = path.rpartition(".")
        found = None
        if not _is_packed(name, parameter) and parameter.numel():
            found = _samples(module.get_submodule(owner), name, parameter)
        if found is None:
            unread += 1
            continue
        tensors[shape][counts[shape]] = found
        counts[shape] += 1
    buffers = ((path.rpartition(".")[2], value) for path, value in module.named_buffers())
    unread += sum("weight" in name and _is_packed(name, value) for name, value in buffers)
    return WeightSketch(
        tensors=dict(tensors),
        counts=dict(counts),
        folded=_is_folded(module),
        unread=unread,
        adapted=adapted,
    )


def _weights(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the parameters, and the weights that quantised modules of torch hold packed."""
    found: list[tuple[str, Tensor]] = list(module.named_parameters())
    for path, child in module.named_modules():
        if "quantized" not in type(child).__module__:
            continue
        for name in ("weight", "bias"):
            packed = getattr(child, name, None)
            if callable(packed) and isinstance(value := packed(), Tensor):
                found.append((f"{path}.{name}", value))
    return found


def _is_packed(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor holds several weights a number, as 4-bit formats pack them.

    They are known by ``quant_state`` (bitsandbytes), or as matrices of whole numbers that are not
    called ``weight``, such as ``qweight`` (GPTQ, AWQ), ``weight_packed`` and ``W_q``.
    """
    if hasattr(tensor, "quant_state"):
        return True
    return name != "weight" and tensor.ndim > 1 and tensor.dtype in _WHOLE


def _samples(owner: nn.Module, name: str, parameter: Tensor) -> Samples | None:
    shape = tuple(parameter.shape)
    raw = np.random.PCG64(prod(shape)).random_raw(SAMPLES)  # its stream is fixed
    places = np.stack(np.unravel_index((raw % np.uint64(prod(shape))).astype(np.int64), shape))
    values, inside = values_of(owner, name, parameter), np.ones(SAMPLES, np.bool_)
    if values is None and hasattr(parameter, "placements"):
        values, first = _local(parameter)
        ends = np.add(first, values.shape)[:, None]
        inside = ((places >= np.array(first)[:, None]) & (places < ends)).all(axis=0)
        places = places - np.array(first)[:, None]
    if values is None:
        return None
    if values.is_quantized:
        values = values.dequantize()
    index = tuple(torch.from_numpy(row[inside]).to(values.device) for row in places)
    found = np.full(SAMPLES, np.nan, np.float32)
    try:
        found[inside] = values[index].to(torch.float32).cpu().numpy()
    except (NotImplementedError, RuntimeError, TypeError):
        if type(values) is Tensor or type(values) is nn.Parameter:
            raise
        return None  # a class of tensors that packs its numbers, and cannot be indexed
    return Samples(dtype=_CODES.get(parameter.dtype, "q"), values=found)


def _local(parameter: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return this process's part of a sharded tensor, and where it begins in the whole."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    sharded = cast("DTensor", parameter)
    mesh, placements = sharded.device_mesh, sharded.placements
    _, first = compute_local_shape_and_global_offset(sharded.shape, mesh, placements)
    return sharded.to_local().detach(), tuple(first)


def _is_folded(module: nn.Module) -> bool:
    """Return whether norms were folded into the weights, or weights that write were centred."""
    configured = getattr(getattr(module, "cfg", None), "normalization_type", None)
    if isinstance(configured, str) and configured.endswith("Pre"):
        return True
    tables = [p for p in module.parameters() if p.ndim == 2 and p.shape[0] > p.shape[1] >= 8]
    table = tables[0] if tables else None
    if table is None or table.is_meta or hasattr(table, "placements") or not _is_float(table):
        return False
    rows = table.detach()[: 4 * SAMPLES].to(torch.float32)
    spread = rows.std(dim=1)
    return bool((spread > 0).any() and (rows.mean(dim=1).abs() <= _CENTRED * spread).all())


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype in _CODES


def _spread(counts: Mapping[str, int]) -> dict[str, set[int]]:
    """Choose which tensors of each shape are stored: all, or as many of each as its share."""
    total = sum(counts.values())
    if total <= _KEPT:
        return {shape: set(range(count)) for shape, count in counts.items()}
    found: dict[str, set[int]] = {}
    for shape, count in counts.items():
        most = max(1, count * _KEPT // total)
        found[shape] = {count * place // most for place in range(most)}
    return found


def _read_group(group: Mapping[str, object]) -> dict[int, Samples]:
    places = [int(place) for place in cast("Sequence[int]", group["places"])]
    dtypes = str(group["dtypes"])
    numbers = np.frombuffer(base64.b64decode(str(group["values"]), validate=True), "<f4")
    rows = numbers.reshape(len(places), SAMPLES).astype(np.float32)
    pairs = zip(places, dtypes, rows, strict=True)
    return {place: Samples(dtype=dtype, values=row) for place, dtype, row in pairs}
