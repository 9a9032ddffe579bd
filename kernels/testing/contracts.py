# ruff: noqa: D102  (the name of a test is its sentence)
"""What every kind of codes must do, as tests to subclass.

Override :meth:`CodesContract.make` in a class whose name begins with ``Test``::

    class TestMyCodes(CodesContract):
        def make(self, values, indices, features, offsets=None) -> Codes: ...

Needs pytest, which the rest of ``isogloss.kernels.testing`` does not.
"""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import reference
from isogloss.kernels.decode import decode
from isogloss.kernels.values.codes import Codes

_FEATURES, _WIDTH = 37, 6
_SHAPES = [(1, 1), (48, 5), (130, 3), (4, 0), (0, 4), (3, _FEATURES)]


class CodesContract:
    """Tests of the :class:`~isogloss.kernels.Codes` seam."""

    def make(
        self, values: Tensor, indices: Tensor, features: int, offsets: Tensor | None = None
    ) -> Codes:
        """Return codes of these entries: ``k`` a row, or ragged where ``offsets`` are given."""
        raise TypeError(f"{type(self).__name__} must override make()")

    def decode(self, codes: Codes, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Reconstruct rows; override it to try another path of the kernel."""
        return decode(codes, weight, bias)

    @pytest.mark.parametrize(("rows", "k"), _SHAPES)
    def test_fixed_codes_know_their_shape(self, rows: int, k: int) -> None:
        values, indices = _entries(rows, k)
        made = self.make(values, indices, _FEATURES)
        found = (made.rows, made.k, made.features, made.is_ragged)
        _require(found == (rows, k, _FEATURES, False), f"rows, k, features, ragged: {found}")
        _same(made.values, values)
        _same(made.indices, indices)
        _require(made.offsets is None, "codes of k a row have offsets")

    def test_ragged_codes_know_their_shape(self) -> None:
        values, indices, offsets = _ragged_entries()
        made = self.make(values, indices, _FEATURES, offsets)
        found = (made.rows, made.features, made.is_ragged)
        _require(found == (5, _FEATURES, True), f"rows, features, ragged: {found}")
        _same(made.values, values)
        _same(made.indices, indices)
        _same(_offsets(made), offsets)
        with pytest.raises(InvalidInput, match="ragged"):
            _ = made.k

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize(("rows", "k"), _SHAPES)
    def test_the_ragged_form_drops_zeros_and_sorts_each_row(
        self, rows: int, k: int, dtype: torch.dtype
    ) -> None:
        values, indices = _entries(rows, k)
        values = values.to(dtype)
        found = self.make(values, indices, _FEATURES).to_ragged()
        _check_canonical(found, _lists(values, indices))
        _require(found.values.dtype == dtype, f"values became {found.values.dtype}")

    def test_ragged_codes_become_canonical_and_stay_so(self) -> None:
        values, indices, offsets = _ragged_entries()
        made = self.make(values, indices, _FEATURES, offsets)
        wanted = [[(0, 5.0), (36, 1.0)], [], [(4, -2.0)], [], [(3, 0.5), (7, 7.0), (9, 2.0)]]
        once = made.to_ragged()
        _check_canonical(once, wanted)
        _check_canonical(once.to_ragged(), wanted)
        _same(made.values, values)
        _same(made.indices, indices)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize(("rows", "k"), _SHAPES)
    def test_both_forms_decode_to_equal_rows(self, rows: int, k: int, dtype: torch.dtype) -> None:
        values, indices = _entries(rows, k)
        weight = _drawn(_FEATURES, _WIDTH, seed=1).to(dtype)
        bias = _drawn(_WIDTH, seed=2)
        made = self.make(values, indices, _FEATURES)
        wanted = reference.decode(values, indices, weight.float(), bias).to(dtype)
        for codes in (made, made.to_ragged()):
            found = self.decode(codes, weight, bias)
            torch.testing.assert_close(found, wanted, msg=lambda text: f"rows differ: {text}")

    def test_both_forms_send_equal_gradients(self) -> None:
        values, indices = _entries(48, 5)
        grad = _drawn(48, _WIDTH, seed=3)
        made = self.make(values, indices, _FEATURES)
        found: list[Tensor] = []
        for codes in (made, made.to_ragged()):
            weight = _drawn(_FEATURES, _WIDTH, seed=1).requires_grad_()
            self.decode(codes, weight).backward(grad)
            _require(weight.grad is not None, "the decoder got no gradient")
            found.append(torch.zeros(0) if weight.grad is None else weight.grad)
        torch.testing.assert_close(found[1], found[0])
        _require(bool(found[0].any()), "the gradient is nothing")

    def test_rows_without_entries_decode_to_the_bias(self) -> None:
        bias = _drawn(_WIDTH, seed=2)
        weight = _drawn(_FEATURES, _WIDTH, seed=1)
        made = self.make(*_entries(4, 0), _FEATURES)
        for codes in (made, made.to_ragged()):
            _same(self.decode(codes, weight, bias), bias.expand(4, _WIDTH))
            _same(self.decode(codes, weight), torch.zeros(4, _WIDTH))

    def test_entries_that_do_not_fit_each_other_are_refused(self) -> None:
        values, indices = _entries(4, 3)
        flat, places = values.reshape(-1), indices.reshape(-1)
        offsets = torch.arange(0, 13, 3)
        with pytest.raises(ShapeError, match="must match"):
            self.make(values, indices[:, :2], _FEATURES)
        with pytest.raises(ShapeError, match=r"\[rows, k\]"):
            self.make(flat, places, _FEATURES)
        with pytest.raises(ShapeError, match="ragged codes want"):
            self.make(values, indices, _FEATURES, offsets)
        with pytest.raises(ShapeError, match="ragged codes want"):
            self.make(flat, places, _FEATURES, offsets[None])
        with pytest.raises(ShapeError, match="ragged codes want"):
            self.make(flat, places, _FEATURES, offsets[:0])
        for features in (0, -1):
            with pytest.raises(InvalidInput, match=f"features is {features}"):
                self.make(values, indices, features)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.uint8, torch.float32])
    def test_indices_of_another_dtype_are_refused(self, dtype: torch.dtype) -> None:
        values, indices = _entries(4, 3)
        with pytest.raises(ShapeError, match="indices are"):
            self.make(values, indices.to(dtype), _FEATURES)

    @pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
    def test_values_that_are_not_floating_are_refused(self, dtype: torch.dtype) -> None:
        values, indices = _entries(4, 3)
        with pytest.raises(ShapeError, match="values are"):
            self.make(values.to(dtype), indices, _FEATURES)

    @pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
    def test_offsets_of_another_dtype_are_refused(self, dtype: torch.dtype) -> None:
        values, indices, offsets = _ragged_entries()
        with pytest.raises(ShapeError, match="offsets are"):
            self.make(values, indices, _FEATURES, offsets.to(dtype))

    @pytest.mark.parametrize("index", [-1, _FEATURES, 2**31 - 1, -(2**31)])
    def test_indices_out_of_range_are_refused_before_decoding(self, index: int) -> None:
        weight = _drawn(_FEATURES, _WIDTH, seed=1)
        values, indices = _entries(4, 3)
        indices[2, 1] = index
        with pytest.raises(InvalidInput, match=str(_FEATURES)):
            self.decode(self.make(values, indices, _FEATURES), weight)
        values, indices, offsets = _ragged_entries()
        indices[-1] = index
        with pytest.raises(InvalidInput, match=str(_FEATURES)):
            self.decode(self.make(values, indices, _FEATURES, offsets), weight)

    @pytest.mark.parametrize(
        "offsets", [[1, 8], [0, 7], [0, 9], [0, 5, 4, 8], [0, -1, 8], [0], [0, 9, 8]]
    )
    def test_offsets_that_do_not_tile_the_entries_are_refused_before_decoding(
        self, offsets: list[int]
    ) -> None:
        values, indices, _ = _ragged_entries()
        made = self.make(values, indices, _FEATURES, torch.tensor(offsets))
        with pytest.raises(InvalidInput, match="offsets"):
            self.decode(made, _drawn(_FEATURES, _WIDTH, seed=1))

    def test_a_decoder_of_other_features_is_refused(self) -> None:
        made = self.make(*_entries(4, 3), _FEATURES)
        for codes in (made, made.to_ragged()):
            with pytest.raises(ShapeError, match=str(_FEATURES)):
                self.decode(codes, _drawn(_FEATURES - 1, _WIDTH, seed=1))


def _drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _entries(rows: int, k: int) -> tuple[Tensor, Tensor]:
    """Return values, a third of them 0, and different indices in each row, in no order."""
    values = _drawn(rows, k, seed=rows + k)
    values[_drawn(rows, k, seed=1 + rows + k) < -0.4] = 0
    indices = _drawn(rows, _FEATURES, seed=2 + rows + k).argsort(dim=1)[:, :k].to(torch.int32)
    return values, indices.contiguous()


def _ragged_entries() -> tuple[Tensor, Tensor, Tensor]:
    """Return 8 entries in 5 rows: out of order, with zeros, two rows empty."""
    values = torch.tensor([1.0, 5.0, 0.0, -2.0, 2.0, 0.0, 0.5, 7.0])
    indices = torch.tensor([36, 0, 1, 4, 9, 2, 3, 7], dtype=torch.int32)
    return values, indices, torch.tensor([0, 2, 2, 4, 4, 8])


def _lists(values: Tensor, indices: Tensor) -> list[list[tuple[int, float]]]:
    """Return the canonical entries of fixed codes, row by row, as plain Python finds them."""
    rows = zip(indices.tolist(), values.tolist(), strict=True)
    return [sorted((i, v) for i, v in zip(*row, strict=True) if v != 0) for row in rows]


def _check_canonical(codes: Codes, wanted: list[list[tuple[int, float]]]) -> None:
    offsets = _offsets(codes)
    _require(codes.is_ragged, "the ragged form is not ragged")
    _require(codes.rows == len(wanted), f"{len(wanted)} rows became {codes.rows}")
    _require(codes.features == _FEATURES, f"features became {codes.features}")
    _require(codes.indices.dtype == torch.int32, f"indices became {codes.indices.dtype}")
    _require(offsets.dtype == torch.int64, f"offsets became {offsets.dtype}")
    entries = list(zip(codes.indices.tolist(), codes.values.tolist(), strict=True))
    bounds = offsets.tolist()
    found = [entries[start:stop] for start, stop in pairwise(bounds)]
    _require(found == wanted, f"canonical entries are {found}, wanted {wanted}")
    _require(bounds[-1] == len(entries), f"{len(entries)} entries end at {bounds[-1]}")


def _offsets(codes: Codes) -> Tensor:
    if codes.offsets is None:
        raise AssertionError("ragged codes have no offsets")
    return codes.offsets


def _same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
