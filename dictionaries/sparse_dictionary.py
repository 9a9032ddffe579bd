"""A dictionary of any kind: its tensors, and its kind's way to encode with them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from jaxtyping import Float32
from torch import Tensor

from isogloss.dictionaries.initialise import tensor_hash
from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.dictionaries.wirings.table import DEFAULT_WIRING
from isogloss.errors import ShapeError
from isogloss.kernels import Codes, decode, product

_BESIDE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "input_bias": ("width",),
        "skip": ("target_width", "width"),
        "skip_bias": ("width",),
    }
)
"""Tensors that may stand beside those of the kind, as ``saved`` names sizes."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SparseDictionary:
    """A trained dictionary on raw activations; implements ``Dictionary`` for every kind."""

    kind: str
    """Name of its kind."""
    settings: Kind
    """The kind with its settings, which encodes."""
    wiring: str = DEFAULT_WIRING
    """Name of the wiring, which says which sites the dictionary reads and which it reconstructs."""
    tensors: Mapping[str, Tensor]
    """The tensors that the kind names in ``saved``; float32. They apply to raw activations. Where
    other sites are reconstructed than are read there may also be ``input_bias`` (``[width]``, what
    is subtracted before encoding), ``skip`` (``[target_width, width]``, the linear map) and
    ``skip_bias`` (``[width]``, what is subtracted before it)."""
    provenance: DictionaryProvenance
    """How the dictionary was made: recording, settings, initial weights."""

    def __repr__(self) -> str:
        """Name the kind, its settings and the shapes of the tensors, on one line."""
        shapes = ", ".join(f"{name} {list(found.shape)}" for name, found in self.tensors.items())
        return f"SparseDictionary({self.settings!r}, wiring={self.wiring!r}, {shapes})"

    def __post_init__(self) -> None:
        _check_tensors(self.settings, self.tensors)

    @classmethod
    def make(
        cls,
        kind: str,
        settings: Mapping[str, object],
        tensors: Mapping[str, Tensor],
        provenance: DictionaryProvenance,
        *,
        wiring: str = DEFAULT_WIRING,
    ) -> "SparseDictionary":
        """Build a dictionary from plain settings and its tensors.

        Raises:
            InvalidInput: there is no such kind, or it refuses a setting.
            ShapeError: a tensor is missing, too many, or of another shape or dtype.
        """
        return cls(
            kind=kind,
            settings=make_kind(kind, settings),
            wiring=wiring,
            tensors=dict(tensors),
            provenance=provenance,
        )

    @property
    def width(self) -> int:
        """Columns of the rows it reads; of several sites, side by side."""
        return sizes_of(self.settings, _shapes(self.tensors))["width"]

    @property
    def target_width(self) -> int:
        """Columns of the rows it reconstructs."""
        return self.decoder.shape[1]

    @property
    def features(self) -> int:
        """Number of features."""
        return self.settings.features

    @property
    def decoder(self) -> Float32[Tensor, "features target_width"]:
        """For each feature the direction that it adds to a row, ``[features, target_width]``."""
        return self.tensors["decoder"]

    def encode(self, rows: Tensor) -> Codes:
        """Return the features that are active on each row.

        Differentiable in ``rows``, with the choice of features held fixed.

        Args:
            rows: raw activations ``[rows, width]``, any floating point type.

        Raises:
            ShapeError: ``rows`` has another shape or is not floating point.
        """
        self.check_rows(rows)
        return self.settings.encode(self.tensors, rows.to(torch.float32))

    def check_rows(self, rows: Tensor) -> None:
        """Raise ShapeError unless ``rows`` are floating point ``[rows, width]``.

        Raises:
            ShapeError: they are not.
        """
        # a plain Tensor above: a wrong shape is this ShapeError under pytest too
        if rows.ndim != 2 or rows.shape[1] != self.width or not rows.is_floating_point():
            raise ShapeError(
                f"rows is {rows.dtype} {tuple(rows.shape)}; wanted floating point "
                f"[rows, {self.width}], the width this dictionary was trained on"
            )

    def decode(self, codes: Codes) -> Float32[Tensor, "rows target_width"]:
        """Reconstruct activations from codes, in the scale in which the recording holds them.

        Differentiable in the codes' values. The part of a linear map is not in it: that needs the
        rows, see :meth:`reconstruct`.

        Args:
            codes: from :meth:`encode` of this dictionary, or of as many features.

        Returns:
            Float32 ``[rows, target_width]``.

        Raises:
            ShapeError: ``codes`` are of another number of features.
        """
        if codes.features != self.features:
            raise ShapeError(
                f"codes are of {codes.features} features, the dictionary has {self.features}; "
                "decode with the dictionary that encoded them"
            )
        return decode(codes, self.decoder, self.tensors["decoder_bias"])

    def reconstruct(
        self, rows: Tensor, codes: Codes | None = None
    ) -> Float32[Tensor, "rows target_width"]:
        """Reconstruct activations from rows: what the features write, and a linear map if any.

        Args:
            rows: raw activations ``[rows, width]``, any floating point type.
            codes: those of :meth:`encode` for the rows, where they are known; None: they are made.

        Returns:
            Float32 ``[rows, target_width]``.

        Raises:
            ShapeError: ``rows`` has another shape or is not floating point.
        """
        found = self.decode(self.encode(rows) if codes is None else codes)
        if "skip" not in self.tensors:
            return found
        centred = rows.to(torch.float32) - self.tensors["skip_bias"]
        return found + product(centred, self.tensors["skip"].T)

    def to(self, device: torch.device | str) -> "SparseDictionary":
        """Return a copy whose tensors are on ``device``."""
        return replace(
            self, tensors={name: tensor.to(device) for name, tensor in self.tensors.items()}
        )


def tensors_hash(settings: Kind, tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over the hashes of the tensors: those that the kind saves, in its order,
    then those beside them."""
    names = [*settings.saved, *(name for name in _BESIDE if name in tensors)]
    hashes = [tensor_hash(tensors[name]) for name in names]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def check_shapes(settings: Kind, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the shapes of a dictionary's tensors with what its kind declares.

    Args:
        settings: the kind with its settings.
        shapes: of all tensors, by name.

    Raises:
        ShapeError: a tensor is missing, too many, or of a shape that does not fit the others.
    """
    beside = {name: sizes for name, sizes in _BESIDE.items() if name in shapes}
    declared = {**settings.saved, **beside}
    if set(shapes) != set(declared) or ("skip" in shapes) != ("skip_bias" in shapes):
        raise ShapeError(f"the tensors are {sorted(shapes)}; wanted {list(settings.saved)}")
    sizes = sizes_of(settings, shapes)
    for name, dimensions in declared.items():
        wanted = tuple(sizes[dimension] for dimension in dimensions)
        if shapes[name] != wanted:
            raise ShapeError(f"{name} is {shapes[name]}; wanted torch.float32 {wanted}")


def sizes_of(settings: Kind, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the sizes that the tensors' dimensions are named by.

    Args:
        settings: the kind with its settings.
        shapes: of the tensors, by name.

    Returns:
        ``features``, ``width`` and ``target_width``.
    """
    target_width = shapes["decoder"][-1] if shapes["decoder"] else 0
    width = target_width
    for name, dimensions in {**_BESIDE, **settings.saved}.items():
        if "width" in dimensions and len(shapes.get(name, ())) == len(dimensions):
            width = shapes[name][dimensions.index("width")]
    return {"features": settings.features, "width": width, "target_width": target_width}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _check_tensors(settings: Kind, tensors: Mapping[str, Tensor]) -> None:
    """Compare the tensors of a dictionary with what its kind declares."""
    check_shapes(settings, _shapes(tensors))
    decoder = tensors["decoder"]
    for name, found in tensors.items():
        if found.dtype != torch.float32:
            raise ShapeError(f"{name} is {found.dtype}; wanted torch.float32")
        if found.device != decoder.device or not found.is_contiguous():
            raise ShapeError(
                f"{name} is on {found.device}, strides {found.stride()}; wanted contiguous tensors "
                f"on one device, {decoder.device}"
            )
