"""The sparse autoencoder: one site in, the same site out."""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from isogloss.dictionaries.initialise import tensor_hash
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import Codes, Weights, decode, encode_topk

TENSORS = ("encoder", "encoder_bias", "decoder", "decoder_bias")
"""Names of the tensors of ``Weights``, in the order in which they are hashed."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SparseAutoencoder:
    """A TopK sparse autoencoder on raw activations (Gao et al. 2024, arXiv 2406.04093).

    ``z = ReLU(TopK_k((x - b_d) W_e^T + b_e))`` and ``x_hat = z W_d + b_d``. Training normalises its
    input; that is folded into the biases here, so codes are in the unit of the activations.
    """

    weights: Weights
    """Encoder and decoder ``[features, width]``, their biases; float32."""
    k: int
    """Features that may fire on one row."""
    provenance: DictionaryProvenance
    """Where it comes from."""

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.weights.features:
            raise InvalidInput(f"k is {self.k}; it must be in [1, {self.weights.features}]")

    @property
    def kind(self) -> str:
        """Architecture: ``topk``."""
        return "topk"

    @property
    def width(self) -> int:
        """Columns of the rows it reads."""
        return self.weights.width

    @property
    def features(self) -> int:
        """Number of features."""
        return self.weights.features

    @property
    def decoder(self) -> Float32[Tensor, "features width"]:
        """What one unit of each feature adds to a row: float32 ``[features, width]``."""
        return self.weights.decoder

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Codes:
        """Return the ``k`` features of each row, strongest first; missing ones have value 0.

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
        # the bias is subtracted rather than folded into encoder_bias: a large mean would cancel
        centred = rows.to(torch.float32) - self.weights.decoder_bias
        return encode_topk(centred, self.weights.encoder, self.weights.encoder_bias, self.k)

    def decode(self, codes: Codes) -> Float32[Tensor, "rows width"]:
        """Reconstruct raw activations, float32 ``[rows, width]``; differentiable in the values.

        Raises:
            ShapeError: ``codes`` are of another number of features.
        """
        if codes.features != self.features:
            raise ShapeError(
                f"codes are of {codes.features} features, the dictionary has {self.features}; "
                "decode with the dictionary that encoded them"
            )
        return decode(codes, self.weights.decoder, self.weights.decoder_bias)

    def to(self, device: torch.device | str) -> "SparseAutoencoder":
        """Return a copy whose weights are on ``device``."""
        return SparseAutoencoder(
            weights=moved(self.weights, device), k=self.k, provenance=self.provenance
        )


def weights_hash(weights: Weights) -> str:
    """Return the sha256 over the hashes of the four tensors, in the order of ``TENSORS``."""
    tensors = weights.named()
    hashes = [tensor_hash(tensors[name]) for name in TENSORS]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def moved(weights: Weights, device: torch.device | str) -> Weights:
    """Return weights on ``device``; the same tensors where they are there already."""
    return Weights(**{name: tensor.to(device) for name, tensor in weights.named().items()})
