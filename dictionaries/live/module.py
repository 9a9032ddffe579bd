"""A trained dictionary as a module of torch: any leading dimensions, any float dtype, gradients."""

import logging
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import SupportsIndex, cast

import torch
from torch import Tensor, nn

from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.live.full_precision import full_precision
from isogloss.dictionaries.live.rewriting import Edits
from isogloss.dictionaries.live.shaped_codes import ShapedCodes
from isogloss.dictionaries.live.splicing import spliced
from isogloss.dictionaries.passport.checks import (
    check_live_site,
    check_model,
    check_rows,
    check_weights,
)
from isogloss.dictionaries.passport.passport import Passport
from isogloss.dictionaries.passport.result import PassportResult, check_parts
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.errors import ShapeError
from isogloss.kernels import Codes, decode, product

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

    def __init__(
        self,
        dictionary: SparseDictionary,
        passport: Passport | None = None,
        *,
        allow: Collection[str] = (),
    ) -> None:
        """Take over the tensors of a dictionary; they are not copied.

        Args:
            dictionary: as :func:`isogloss.dictionaries.load_dictionary` reads it.
            passport: what it was trained on, which is compared with its weights now, and where it
                is spliced into a model; None: not known.
            allow: parts of the passport that may differ, such as ``["activation"]`` for another k.

        Raises:
            PassportRefused: another k or threshold, or other weights, than the passport says.
            InvalidInput: ``allow`` names no part of a passport.
        """
        check_parts(allow)
        super().__init__()
        self._passport = passport
        self._cautions = ("the dictionary has no passport: nothing is checked",)
        if passport is not None:
            self._cautions = check_weights(passport, dictionary).require(allow).cautions
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
    def passport(self) -> Passport | None:
        """What it was trained on; None: not known."""
        return self._passport

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
        with full_precision(rows):
            found = self.reconstruct_rows(rows, self.encode_rows(rows))
        return found.reshape(*activations.shape[:-1], self.target_width).to(activations.dtype)

    def encode(
        self,
        activations: Tensor,
        *,
        model: object | None = None,
        site: str | Sequence[str] | None = None,
        allow: Collection[str] = (),
    ) -> ShapedCodes:
        """Return the features that fire.

        Args:
            activations: raw (not normalised) activations ``[..., width]``.
            model: the model that they are of, which is compared with the passport; None: nothing
                is compared.
            site: where in the model they were read; None: not compared.
            allow: parts of the passport that may differ.

        Returns:
            Sparse codes; :meth:`ShapedCodes.dense` gives ``[..., features]``.

        Raises:
            ShapeError: they are of another width, or not floating point.
            PassportRefused: model, site or scale is another than in training.
            InvalidInput: ``allow`` names no part of a passport.
        """
        check_parts(allow)
        if model is not None:
            found = self.check(model, site)
            if self._passport is not None:
                found += check_rows(self._passport, self._rows(activations))
            found.require(allow)
        rows = self._rows(activations)
        with full_precision(rows):
            codes = self.encode_rows(rows)
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
            with full_precision(codes.codes.values):
                found = self._decoded(codes.codes)
            return found.reshape(*codes.shape, self.target_width).to(codes.dtype)
        if not codes.is_floating_point() or codes.ndim < 1 or codes.shape[-1] != self.features:
            raise self._wrong_features(f"codes are {codes.dtype} {list(codes.shape)}")
        decoder, bias = self._tensor("decoder", codes), self._tensor("decoder_bias", codes)
        with full_precision(codes):
            found = codes.to(torch.float32) @ decoder.float() + bias.float()
        return found.to(codes.dtype)

    @contextmanager
    def spliced(
        self,
        model: object,
        site: str | Sequence[str] | None = None,
        *,
        ablate: Sequence[SupportsIndex] = (),
        steer: Mapping[int, float] = MappingProxyType({}),
        keep_error: bool = True,
        allow: Collection[str] = (),
    ) -> Generator[PassportResult]:
        """Let the dictionary rewrite activations of a live model within a ``with`` block.

        At every token, also of those that are generated, features are set to an activation: 0 for
        those in ``ablate``. With z_f what a feature was and w_f its decoder row, activations x
        become ``x + sum (value - z_f) w_f``; where nothing is set they stay as they are, to the
        bit. Blocks nest; whatever ends a block, the model is as before. Gradients flow. What is
        compiled runs eagerly meanwhile.

        Args:
            model: a module of torch: of Hugging Face, TransformerLens, nnsight, or your own; a
                wrapper of one; or what ``load_model`` gives.
            site: path of the submodule whose output is rewritten; of a transcoder two: the one
                that it reads, and the one to rewrite. None: those that it was trained on.
            ablate: numbers of features that are set to 0.
            steer: activation to which each of some features is set, by number.
            keep_error: whether what the dictionary does not explain of the activations stays.
                False: they become what the changed features stand for.
            allow: parts of the passport that may differ, such as ``["model", "site"]``.

        Yields:
            What the check of the passport came to, with its cautions.

        Raises:
            UnknownSite: the model has no such submodule.
            InvalidInput: there is no such feature, or a wrong number of sites.
            PassportRefused: the model, site, scale or beginning of the texts is another than in
                training; the last two are told by the first pass.
            ShapeError: in the pass: the site has another width.
        """
        edits = Edits.of(ablate, steer, self.features)
        with spliced(
            self, model, site, edits, self._passport, keep_error=keep_error, allow=allow
        ) as result:
            yield PassportResult(cautions=self._cautions) + result

    def check(self, model: object, site: str | Sequence[str] | None = None) -> PassportResult:
        """Compare a live model, and a site of it, with what the dictionary was trained on.

        Args:
            model: a module, a wrapper of one, or a :class:`isogloss.models.LoadedModel`.
            site: path of the submodule, of a transcoder two; None: not compared.

        Returns:
            ``same``, ``descended`` or ``other``, with reasons; ``require()`` raises for the last.
        """
        found = PassportResult(cautions=self._cautions)
        if self._passport is None:
            return found
        found += check_model(self._passport, model)
        if site is not None:
            sites = (site,) if isinstance(site, str) else tuple(site)
            found += check_live_site(self._passport, model, sites)
        return found

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
        given = cast("object", activations)
        if not isinstance(given, Tensor):
            raise ShapeError(
                f"activations are a {type(given).__name__}, wanted a tensor of torch: give "
                "torch.as_tensor(...); client.encode takes arrays of numpy"
            )
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

    def encode_rows(self, rows: Tensor) -> Codes:
        """Return the features that fire on float32 ``[rows, width]``, contiguous."""
        tensors = {name: self._tensor(name, rows) for name in self._names}
        return self._settings.encode(tensors, rows)

    def reconstruct_rows(self, rows: Tensor, codes: Codes) -> Tensor:
        """Return float32 ``[rows, target_width]`` of codes, and of rows where there is a map."""
        found = self._decoded(codes)
        if "skip" not in self._names:
            return found
        centred = rows - self._tensor("skip_bias", rows)
        return found + product(centred, self._tensor("skip", rows).T.to(rows.dtype))

    def directions(self, features: Tensor) -> Tensor:
        """Return the decoder rows of some features, float32, on the device of their numbers."""
        return self._tensor("decoder", features)[features].to(torch.float32)

    def _decoded(self, codes: Codes) -> Tensor:
        weight = self._tensor("decoder", codes.values)
        return decode(codes, weight, self._tensor("decoder_bias", codes.values)).to(torch.float32)

    def _wrong_features(self, found: str) -> ShapeError:
        return ShapeError(
            f"{found}; wanted floating point [..., {self.features}], the number of features of "
            "this dictionary: decode with the dictionary that encoded them"
        )
