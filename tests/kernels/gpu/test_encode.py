"""encode_topk by Triton, in the interpreter: repairs, ties, rounding, and rows fit to be loaded."""

import pytest
import torch
from torch import Tensor

from isogloss.kernels import encode_threshold, encode_topk, reference

triton = pytest.importorskip("triton")

if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)


from isogloss.kernels.gpu import encode as gpu_encode  # noqa: E402
from isogloss.kernels.gpu.configs import EncodeConfig  # noqa: E402
from isogloss.kernels.gpu.decode import row_unit  # noqa: E402
from isogloss.kernels.gpu.tiles import loadable  # noqa: E402
from isogloss.kernels.testing import properties  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter, poisoned  # noqa: E402

SMALL = EncodeConfig(rows=16, columns=32, tiles=2, kept=4, depth=16, warps=4, stages=2)


def by_triton(x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    with interpreter(), poisoned():
        return gpu_encode.encode_topk(x, weight, bias, k, SMALL)


def draw(kind: str, rows: int, width: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    inputs = properties.draw(kind, rows, width, features, 0)
    return inputs.x.float(), inputs.weight.float(), inputs.bias.float()


def test_crowded_programs_are_repaired_and_others_are_not() -> None:
    torch.manual_seed(0)
    x, weight, bias = draw("one program", 3, 8, 256)  # 4 programs of 64 features
    _, indices, repaired = by_triton(x, weight, bias, 12)
    order = reference.encode_topk(x, weight, bias, 12)[1]
    assert torch.equal(indices.long(), order)
    assert repaired.tolist() == [1, 1, 1]
    spread = torch.full((256,), -100.0)
    spread[:12] = 100.0  # 3 winners a program, of 4 kept
    _, indices, repaired = by_triton(x, weight, spread, 12)
    assert torch.equal(indices.long(), reference.encode_topk(x, weight, spread, 12)[1])
    assert repaired.tolist() == [0, 0, 0]


def test_a_dictionary_ordered_by_frequency_does_not_crowd_a_program() -> None:
    """Winners among the first features, as in Matryoshka prefixes: strided programs share them."""
    torch.manual_seed(0)
    x, weight = torch.randn(16, 16), torch.randn(512, 16) / 4
    bias = torch.where(torch.arange(512) < 64, 3.0, -3.0)
    _, indices, repaired = by_triton(x, weight, bias, 8)
    assert (indices < 64).float().mean() > 0.9
    assert repaired.sum() <= 2


def test_real_numbers_agree_with_float64_to_rounding() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(20, 50), torch.randn(333, 50), torch.randn(333)
    values, indices, _ = by_triton(x, weight, bias, 9)
    wanted, order = reference.encode_topk(x.double(), weight.double(), bias.double(), 9)
    torch.testing.assert_close(values, wanted.float(), rtol=1e-5, atol=1e-5)
    assert (indices.long() == order).float().mean() > 0.99


def test_large_k_and_wide_lists_are_exact() -> None:
    torch.manual_seed(0)
    x, weight, bias = draw("ties", 1, 5, 90)
    _, indices, _ = by_triton(x, weight, bias, 50)
    assert torch.equal(indices.long(), reference.encode_topk(x, weight, bias, 50)[1])


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
