"""A dictionary that encodes a few rows by the features that may fire on them, with equal codes."""

from dataclasses import replace

import torch
from torch import Tensor

from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.kernels import Codes, EncoderScreen, make_screen, screening_pays, take_features


class ScreenedDictionary:
    """Answers questions about a few rows, such as those of one text.

    An 8-bit copy of the encoder tells which features may fire; only their directions are read. The
    codes are those of :meth:`SparseDictionary.encode`. Of kinds that cannot be screened (see
    ``Kind.may_fire``), of many rows, where most features may fire, and on processors that do not
    multiply bytes quickly, all directions are read.
    """

    def __init__(self, dictionary: SparseDictionary) -> None:
        """Round the encoder to 8 bits, a quarter of its bytes.

        Args:
            dictionary: on the CPU.
        """
        self.dictionary = dictionary
        tensors = dictionary.tensors
        self._screen: EncoderScreen | None = None
        if screening_pays() and type(dictionary.settings).may_fire is not Kind.may_fire:
            self._screen = make_screen(tensors["encoder"], tensors["encoder_bias"])

    @property
    def nbytes(self) -> int:
        """Bytes held: tensors and screen."""
        weights = sum(tensor.nbytes for tensor in self.dictionary.tensors.values())
        return weights + (0 if self._screen is None else self._screen.nbytes)

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Codes:
        """Return the features that are active on each row, as the dictionary does.

        Args:
            rows: raw activations ``[rows, width]``, any floating point type.

        Raises:
            ShapeError: ``rows`` has another shape or is not floating point.
        """
        dictionary = self.dictionary
        dictionary.check_rows(rows)
        settings, tensors, given = dictionary.settings, dictionary.tensors, rows.to(torch.float32)
        if self._screen is None:
            return dictionary.encode(given)
        left = settings.may_fire(tensors, given, self._screen)
        if left is None:
            return dictionary.encode(given)
        if not len(left):
            left = left.new_zeros(1)  # encoders want a feature; this one does not fire either
        per_feature = {
            name
            for name, sizes in settings.saved.items()
            if sizes[:1] == ("features",) and name != "decoder"
        }
        part = {
            name: take_features(tensor, left) if name in per_feature else tensor
            for name, tensor in tensors.items()
        }
        codes = settings.encode(part, given)
        features = left[codes.indices.long()].int()
        return replace(codes, indices=features, features=dictionary.features)
