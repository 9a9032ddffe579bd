"""Rows and directions are made fit to be loaded 128 bits at a time."""

import pytest
import torch

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)

from isogloss.kernels import encode_threshold, encode_topk, reference  # noqa: E402 (after the check above)
from isogloss.kernels.gpu.decode import row_unit  # noqa: E402
from isogloss.kernels.gpu.tiles import loadable  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402


def test_what_fits_is_not_copied() -> None:
    x, weight = torch.randn(3, 256)[:, 64:192], torch.randn(5, 128)
    found = loadable(x, weight, 64)
    assert [one.data_ptr() for one in found] == [x.data_ptr(), weight.data_ptr()]
    one_row = torch.randn(128).expand(4, 128)
    assert loadable(one_row, weight, 64)[0].data_ptr() == one_row.data_ptr()


@pytest.mark.parametrize("width", [1, 15, 48, 63, 65, 130])
def test_a_width_that_is_no_multiple_is_filled_up_with_zeros(width: int) -> None:
    x, weight = torch.randn(3, width), torch.randn(5, width, dtype=torch.bfloat16)
    with poisoned():
        found = loadable(x, weight, 64)
    for tensor, given in zip(found, (x, weight.float()), strict=True):
        assert tensor.dtype == torch.float32  # theirs differ
        assert tensor.shape[1] % 64 == 0
        assert torch.equal(tensor[:, :width], given)
        assert not tensor[:, width:].any()


def test_rows_that_lie_apart_unaligned_or_transposed_are_copied_to_where_they_fit() -> None:
    weight = torch.randn(5, 64)
    wide = torch.randn(4, 75)
    flat = torch.randn(1 + 4 * 64)
    for x in (wide[:, :64], wide[:, 3:67], torch.randn(64, 4).T, flat[1:].view(4, 64)):
        found = loadable(x, weight, 64)[0]
        assert torch.equal(found, x)
        assert (found.stride(1), found.stride(0) % 16, found.data_ptr() % 16) == (1, 0, 0)
    unaligned = flat[1:].view(4, 64)  # weights cut out of one long parameter
    assert loadable(weight, unaligned, 64)[1].data_ptr() % 16 == 0


@pytest.mark.parametrize("width", [1, 31, 64, 72])
def test_rows_of_any_width_and_layout_are_encoded_exactly(width: int) -> None:
    torch.manual_seed(width)
    wide = torch.randint(-2, 3, (5, width + 7)).float()
    weight, bias = torch.randint(-2, 3, (70, width)).float(), torch.randint(-1, 2, (70,)).float()
    for x in (wide[:, 3 : 3 + width], wide[:, :width].T.contiguous().T, wide[:1, :width]):
        with interpreter(), poisoned():
            codes = encode_topk(x, weight, bias, 7)
            ragged = encode_threshold(x, weight, bias, 1.5)
        values, indices = reference.encode_topk(x.double(), weight.double(), bias.double(), 7)
        assert torch.equal(codes.indices, indices)
        assert torch.equal(codes.values, values.float())
        wanted = reference.encode_threshold(
            x.double(), weight.double(), bias.double(), torch.full((70,), 1.5)
        )
        assert torch.equal(ragged.values, wanted[0].float())
        assert torch.equal(ragged.indices, wanted[1].int())


def test_the_largest_power_of_two_that_divides_a_width_is_told_to_the_compiler() -> None:
    assert [row_unit(width) for width in (1, 6, 12, 776, 768, 4096)] == [1, 2, 4, 8, 16, 16]
