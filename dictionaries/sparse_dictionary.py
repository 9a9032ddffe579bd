"""A dictionary of any kind: its tensors, and its kind's way to encode with them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32
from torch import Tensor

from isogloss.dictionaries.initialise import tensor_hash
from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.kinds.load import make_kind
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.dictionaries.wirings.table import DEFAULT_WIRING
from isogloss.errors import ShapeError
from isogloss.kernels import Codes, decode


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
    """The tensors that the kind names in ``saved``; float32. They apply to raw activations."""
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
        """Columns of the rows it reads."""
        return self.decoder.shape[1]

    @property
    def features(self) -> int:
        """Number of features."""
        return self.settings.features

    @property
    def decoder(self) -> Float32[Tensor, "features width"]:
        """For each feature the direction that it adds to a row, float32 ``[features, width]``."""
        return self.tensors["decoder"]

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Codes:
        """Return the features that are active on each row.

        Args:
            rows: raw activations ``[rows, width]``, any floating point type.

        Raises:
            ShapeError: ``rows`` has another shape or is not floating point.
        """
        # a plain Tensor above: a wrong shape is this ShapeError under pytest too
        if rows.ndim != 2 or rows.shape[1] != self.width or not rows.is_floating_point():
            raise ShapeError(
                f"rows is {rows.dtype} {tuple(rows.shape)}; wanted floating point "
                f"[rows, {self.width}], the width this dictionary was trained on"
            )
        return self.settings.encode(self.tensors, rows.to(torch.float32))

    def decode(self, codes: Codes) -> Float32[Tensor, "rows width"]:
        """Reconstruct activations from codes, in the scale in which the recording holds them.

        Differentiable in the codes' values.

        Args:
            codes: from :meth:`encode` of this dictionary, or of as many features.

        Returns:
            Float32 ``[rows, width]``.

        Raises:
            ShapeError: ``codes`` are of another number of features.
        """
        if codes.features != self.features:
            raise ShapeError(
                f"codes are of {codes.features} features, the dictionary has {self.features}; "
                "decode with the dictionary that encoded them"
            )
        return decode(codes, self.decoder, self.tensors["decoder_bias"])

    def to(self, device: torch.device | str) -> "SparseDictionary":
        """Return a copy whose tensors are on ``device``."""
        return replace(
            self, tensors={name: tensor.to(device) for name, tensor in self.tensors.items()}
        )


def tensors_hash(settings: Kind, tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over the hashes of the tensors, in the order in which the kind saves."""
    hashes = [tensor_hash(tensors[name]) for name in settings.saved]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _check_tensors(settings: Kind, tensors: Mapping[str, Tensor]) -> None:
    """Compare the tensors of a dictionary with what its kind declares."""
    if set(tensors) != set(settings.saved):
        raise ShapeError(f"the tensors are {sorted(tensors)}; wanted {list(settings.saved)}")
    decoder = tensors["decoder"]
    sizes = {"features": settings.features, "width": decoder.shape[-1] if decoder.ndim else 0}
    for name, dimensions in settings.saved.items():
        found, wanted = tensors[name], tuple(sizes[dimension] for dimension in dimensions)
        if tuple(found.shape) != wanted or found.dtype != torch.float32:
            raise ShapeError(
                f"{name} is {found.dtype} {tuple(found.shape)}; wanted torch.float32 {wanted}"
            )
        if found.device != decoder.device or not found.is_contiguous():
            raise ShapeError(
                f"{name} is on {found.device}, strides {found.stride()}; wanted contiguous tensors "
                f"on one device, {decoder.device}"
            )
