# ruff: noqa: D102  (the name of a test is its sentence)
"""What every dictionary must do, as tests to subclass.

Override :meth:`DictionaryContract.make` in a class whose name begins with ``Test``::

    class TestMyDictionary(DictionaryContract):
        def make(self) -> Dictionary: ...
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from isogloss.dictionaries.dictionary import Dictionary
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.dictionaries.saving import load_dictionary, save_dictionary
from isogloss.dictionaries.testing.require import require
from isogloss.errors import AlreadyExists, ShapeError
from isogloss.kernels import Codes


class DictionaryContract:
    """Tests of the :class:`~isogloss.dictionaries.Dictionary` seam."""

    def make(self) -> Dictionary:
        """Return a small dictionary (at least 2 features, some of which fire on random rows)."""
        raise TypeError(f"{type(self).__name__} must override make()")

    def rows(self, count: int = 48) -> Tensor:
        """Return random activations for :meth:`make`'s dictionary."""
        return torch.randn(count, self.make().width, generator=torch.Generator().manual_seed(5))

    def test_it_has_every_member_of_the_protocol(self) -> None:
        made = self.make()
        require(_is_dictionary(made), f"{type(made).__name__} lacks a member of Dictionary")
        require(bool(made.kind), "kind is empty")
        require(made.decoder.dtype == torch.float32, f"decoder is {made.decoder.dtype}")
        require(made.decoder.shape[0] == made.features, "decoder has another number of features")

    def test_codes_are_positive_and_name_each_feature_of_a_row_once(self) -> None:
        made = self.make()
        codes = made.encode(self.rows())
        require(codes.features == made.features, "codes are of another number of features")
        require(codes.rows == 48, f"48 rows gave codes of {codes.rows}")
        ragged = codes.to_ragged()
        require(ragged.values.numel() > 0, "no feature fires on random rows")
        require(bool((ragged.values > 0).all()), "an active feature has a value below 0")
        inside = (ragged.indices >= 0) & (ragged.indices < made.features)
        require(bool(inside.all()), "an index is out of range")
        dense = _dense(codes)
        require(int((dense > 0).sum()) == ragged.values.numel(), "a row names a feature twice")

    def test_encoding_again_gives_the_same_bits(self) -> None:
        made = self.make()
        first, second = made.encode(self.rows()), made.encode(self.rows())
        torch.testing.assert_close(first.values, second.values, rtol=0, atol=0)
        torch.testing.assert_close(first.indices, second.indices, rtol=0, atol=0)

    def test_encoding_leaves_the_rows_as_they_were(self) -> None:
        rows = self.rows()
        self.make().encode(rows)
        torch.testing.assert_close(rows, self.rows(), rtol=0, atol=0)

    def test_bfloat16_rows_encode_as_their_float32_values(self) -> None:
        made, rows = self.make(), self.rows().to(torch.bfloat16)
        narrow, wide = made.encode(rows), made.encode(rows.to(torch.float32))
        torch.testing.assert_close(_dense(narrow), _dense(wide))

    def test_decoding_is_affine_in_the_codes_with_the_decoder_as_its_slope(self) -> None:
        made = self.make()
        codes = made.encode(self.rows())
        nothing = Codes(
            values=torch.zeros(48, 1),
            indices=torch.zeros(48, 1, dtype=torch.int32),
            features=made.features,
        )
        expected = made.decode(nothing) + _dense(codes) @ made.decoder
        torch.testing.assert_close(made.decode(codes), expected, rtol=1e-4, atol=1e-4)

    def test_ragged_codes_decode_as_the_codes_they_come_from(self) -> None:
        made = self.make()
        codes = made.encode(self.rows())
        torch.testing.assert_close(
            made.decode(codes.to_ragged()), made.decode(codes), rtol=1e-4, atol=1e-4
        )

    @pytest.mark.parametrize("shape", [(4, 1), (4,), (2, 3, 4)])
    def test_rows_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        made = self.make()
        with pytest.raises(ShapeError, match="wanted"):
            made.encode(torch.zeros(*shape[:-1], made.width + shape[-1]))

    def test_integer_rows_are_refused(self) -> None:
        made = self.make()
        with pytest.raises(ShapeError, match="floating"):
            made.encode(torch.zeros(4, made.width, dtype=torch.int64))

    def test_codes_of_another_dictionary_are_refused(self) -> None:
        made = self.make()
        foreign = Codes(
            values=torch.ones(2, 1),
            indices=torch.zeros(2, 1, dtype=torch.int32),
            features=made.features + 1,
        )
        with pytest.raises(ShapeError, match=str(made.features + 1)):
            made.decode(foreign)

    def test_provenance_survives_json(self) -> None:
        provenance = self.make().provenance
        read = DictionaryProvenance.from_dict(json.loads(json.dumps(provenance.to_dict())))
        require(read == provenance, f"{provenance} came back as {read}")

    def test_it_survives_saving_and_loading_bit_for_bit(self, tmp_path: Path) -> None:
        made, rows = self.make(), self.rows()
        save_dictionary(made, tmp_path / "saved")
        read = load_dictionary(tmp_path / "saved")
        require(read.kind == made.kind, f"kind {made.kind} came back as {read.kind}")
        torch.testing.assert_close(read.decoder, made.decoder, rtol=0, atol=0)
        before, after = made.encode(rows), read.encode(rows)
        torch.testing.assert_close(after.values, before.values, rtol=0, atol=0)
        torch.testing.assert_close(after.indices, before.indices, rtol=0, atol=0)
        torch.testing.assert_close(read.decode(after), made.decode(before), rtol=0, atol=0)

    def test_saving_again_is_harmless_and_over_another_is_refused(self, tmp_path: Path) -> None:
        made = self.make()
        save_dictionary(made, tmp_path)
        save_dictionary(made, tmp_path)
        made.decoder[0] += 1
        with pytest.raises(AlreadyExists, match="another"):
            save_dictionary(made, tmp_path)


def _is_dictionary(subject: object) -> bool:
    return isinstance(subject, Dictionary)


def _dense(codes: Codes) -> Tensor:
    ragged = codes.to_ragged()
    dense = np.zeros((codes.rows, codes.features), dtype=np.float32)
    if ragged.offsets is None:
        raise TypeError("to_ragged() gave codes without offsets")
    rows = np.repeat(np.arange(codes.rows), np.diff(ragged.offsets.cpu().numpy()))
    np.add.at(dense, (rows, ragged.indices.cpu().numpy()), ragged.values.cpu().numpy())
    return torch.from_numpy(dense)
