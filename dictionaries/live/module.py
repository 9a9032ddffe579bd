"""A trained dictionary as a module of torch: any leading dimensions, any float dtype, gradients."""

import logging

import torch
from torch import Tensor, nn

from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.live.shaped_codes import ShapedCodes
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.errors import ShapeError
from isogloss.kernels import Codes, decode

_log = logging.getLogger(__name__)

_CONSTANTS = frozenset({"threshold", "input_bias", "skip_bias"})
"""Tensors that get no gradient: what is compared with a threshold does not change with it, and
the other two are constants of the training."""


class DictionaryModule(nn.Module):
    """A dictionary of any kind, ready to use on activations ``[..., width]``.

    Activations of bfloat16, float16, float32 or float64 come out in the dtype in which they went
    in; sums are float32 inside. Gradients flow to activations and to the weights, with the choice
    of the features that fire held fixed (Gao et al. 2024, arXiv 2406.04093); thresholds get none.
    There is no second derivative.

    The tensors of the dictionary are parameters under their own names: ``encoder`` and ``decoder``
    (``[features, width]``), ``encoder_bias``, ``decoder_bias``, and what else the kind has.
    Thresholds are buffers.
    """

    def __init__(self, dictionary: SparseDictionary) -> None:
        """Take over the tensors of a dictionary; they are not copied.

        Args:
            dictionary: as :func:`isogloss.dictionaries.load_dictionary` reads it.
        """
        super().__init__()
        self._settings = dictionary.settings
        self._kind, self._wiring = dictionary.kind, dictionary.wiring
        self._provenance = dictionary.provenance
        self._names = tuple(dictionary.tensors)
        self._width, self._features = dictionary.width, dictionary.features
        self._has_moved = False
        for name, tensor in dictionary.tensors.items():
            if name in _CONSTANTS:
                self.register_buffer(name, tensor.detach())
            else:
                self.register_parameter(name, nn.Parameter(tensor.detach()))

    @property
    def kind(self) -> str:
        """Name of its kind: activation, loss and state."""
        return self._kind

    @property
    def settings(self) -> Kind:
        """The kind with its settings, such as ``k``."""
        return self._settings

    @property
    def wiring(self) -> str:
        """Name of the wiring: which sites it reads and which it reconstructs."""
        return self._wiring

    @property
    def provenance(self) -> DictionaryProvenance:
        """How the dictionary was made."""
        return self._provenance

    @property
    def width(self) -> int:
        """Numbers of an activation that it reads."""
        return self._width

    @property
    def features(self) -> int:
        """Number of features."""
        return self._features

    @property
    def target_width(self) -> int:
        """Numbers of an activation that it reconstructs."""
        return self._tensor("decoder").shape[1]

    def extra_repr(self) -> str:
        """Name the kind and the sizes, as ``print`` shows a module."""
        into = "" if self.target_width == self.width else f" -> {self.target_width}"
        return f"{self._settings!r}, wiring={self._wiring!r}, width {self.width}{into}"

    def forward(self, activations: Tensor) -> Tensor:
        """Reconstruct activations: what the features write, and a linear map if there is one.

        Args:
            activations: raw activations ``[..., width]``.

        Returns:
            ``[..., target_width]`` in their dtype.

        Raises:
            ShapeError: they are of another width, or not floating point.
        """
        rows = self._rows(activations)
        found = self._decoded(self._encoded(rows))
        if "skip" in self._names:
            centred = rows - self._tensor("skip_bias", rows)
            found = found + centred @ self._tensor("skip", rows).T.to(rows.dtype)
        return found.reshape(*activations.shape[:-1], self.target_width).to(activations.dtype)

    def encode(self, activations: Tensor) -> ShapedCodes:
        """Return the features that fire.

        Args:
            activations: raw (not normalised) activations ``[..., width]``.

        Returns:
            Sparse codes; :meth:`ShapedCodes.dense` gives ``[..., features]``.

        Raises:
            ShapeError: they are of another width, or not floating point.
        """
        codes = self._encoded(self._rows(activations))
        shape = tuple(activations.shape[:-1])
        return ShapedCodes(codes=codes, shape=shape, dtype=activations.dtype)

    def dense(self, activations: Tensor) -> Tensor:
        """Return the activation of every feature: :meth:`encode`, then :meth:`ShapedCodes.dense`.

        Args:
            activations: raw activations ``[..., width]``.

        Returns:
            ``[..., features]`` in their dtype.
        """
        return self.encode(activations).dense()

    def decode(self, codes: ShapedCodes | Tensor) -> Tensor:
        """Reconstruct activations from features. A linear map of the activations is not in it.

        Args:
            codes: from :meth:`encode`, or a dense tensor ``[..., features]``.

        Returns:
            ``[..., target_width]``, in the dtype of the activations or of the dense tensor.

        Raises:
            ShapeError: they are of another number of features, or not floating point.
        """
        if isinstance(codes, ShapedCodes):
            if codes.features != self.features:
                raise self._wrong_features(f"codes are of {codes.features} features")
            found = self._decoded(codes.codes)
            return found.reshape(*codes.shape, self.target_width).to(codes.dtype)
        if not codes.is_floating_point() or codes.ndim < 1 or codes.shape[-1] != self.features:
            raise self._wrong_features(f"codes are {codes.dtype} {list(codes.shape)}")
        decoder, bias = self._tensor("decoder", codes), self._tensor("decoder_bias", codes)
        wide = codes.to(torch.float32)
        return (wide @ decoder.float() + bias.float()).to(codes.dtype)

    def as_dictionary(self) -> SparseDictionary:
        """Return the weights as they are now, to save or to evaluate them; float32 copies."""
        tensors = {
            name: self._tensor(name).detach().to(torch.float32, copy=True).contiguous()
            for name in self._names
        }
        return SparseDictionary(
            kind=self._kind,
            settings=self._settings,
            wiring=self._wiring,
            tensors=tensors,
            provenance=self._provenance,
        )

    def _tensor(self, name: str, like: Tensor | None = None) -> Tensor:
        """Return a weight, on the device of ``like`` where that is given."""
        found = self.get_parameter(name) if name in self._parameters else self.get_buffer(name)
        if like is None or like.device == found.device:
            return found
        if not self._has_moved:
            self._has_moved = True
            _log.warning(
                "a dictionary on %s is copied to %s at each use: dictionary.to(%r) moves it once",
                found.device,
                like.device,
                str(like.device),
            )
        return found.to(like.device)

    def _rows(self, activations: Tensor) -> Tensor:
        """Return activations as float32 ``[rows, width]``."""
        if (
            not activations.is_floating_point()
            or activations.ndim < 1
            or activations.shape[-1] != self.width
        ):
            raise ShapeError(
                f"activations are {activations.dtype} {list(activations.shape)}; wanted floating "
                f"point [..., {self.width}], the width this dictionary was trained on"
            )
        return activations.to(torch.float32).reshape(-1, self.width).contiguous()

    def _encoded(self, rows: Tensor) -> Codes:
        tensors = {name: self._tensor(name, rows) for name in self._names}
        return self._settings.encode(tensors, rows)

    def _decoded(self, codes: Codes) -> Tensor:
        weight = self._tensor("decoder", codes.values)
        return decode(codes, weight, self._tensor("decoder_bias", codes.values)).to(torch.float32)

    def _wrong_features(self, found: str) -> ShapeError:
        return ShapeError(
            f"{found}; wanted floating point [..., {self.features}], the number of features of "
            "this dictionary: decode with the dictionary that encoded them"
        )
