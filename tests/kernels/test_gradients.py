"""sparse_gradients against the dense reference and autograd; ragged codes on CPU and Triton."""

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import (
    Codes,
    SparseGradients,
    encode_topk,
    reference,
    sparse_gradients,
)

NAMES = ("values", "decoder", "encoder", "encoder_bias")
DEVICES = ("cpu", "triton")


def path(device: str) -> AbstractContextManager[object]:
    """Where kernels run meanwhile: as the tensors say, or in Triton's interpreter."""
    if device == "cpu":
        return nullcontext()
    return pytest.importorskip("isogloss.kernels.testing.interpreter").interpreter()


def ragged(lengths: list[int], features: int) -> Codes:
    """Codes of rows of those lengths: indices in any order, every third value 0, some negative."""
    generator = torch.Generator().manual_seed(0)
    indices = [torch.randperm(features, generator=generator)[:length] for length in lengths]
    values = torch.randn(sum(lengths), generator=generator)
    values[::3] = 0
    return Codes(
        values=values,
        indices=torch.cat([*indices, torch.zeros(0)]).int(),
        features=features,
        offsets=torch.tensor([0, *lengths]).cumsum(0),
    )


def check_ragged(found: SparseGradients, codes: Codes, grad: Tensor, x: Tensor, w: Tensor) -> None:
    assert codes.offsets is not None
    dense = reference.dense(codes)
    every = torch.arange(codes.features).expand_as(dense)
    wanted = list(reference.sparse_gradients(dense, every, grad.double(), x.double(), w.double()))
    rows = torch.repeat_interleave(torch.arange(codes.rows), codes.offsets.diff())
    wanted[0] = wanted[0][rows, codes.indices.long()]
    if found.features is not None:
        assert found.features.tolist() == sorted(set(codes.indices[codes.values != 0].tolist()))
        wanted[1:] = [tensor[found.features] for tensor in wanted[1:]]
    for name, want in zip(NAMES, wanted, strict=True):
        torch.testing.assert_close(
            getattr(found, name),
            want.float(),
            rtol=2e-5,
            atol=1e-4,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def problem(
    rows: int, width: int, features: int, k: int
) -> tuple[Codes, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x, encoder = torch.randn(rows, width), torch.randn(features, width)
    codes = encode_topk(x, encoder, torch.randn(features), k)
    return codes, torch.randn(rows, width), x, torch.randn(features, width)


@pytest.mark.parametrize(
    ("rows", "width", "features", "k"),
    [(1, 1, 1, 1), (5, 48, 130, 7), (130, 130, 70, 32), (40, 16, 9, 9)],
)
def test_gradients_match_reference(rows: int, width: int, features: int, k: int) -> None:
    codes, grad, x, decoder = problem(rows, width, features, k)
    found = sparse_gradients(codes, grad, x, decoder)
    wanted = reference.sparse_gradients(
        codes.values.double(), codes.indices, grad.double(), x.double(), decoder.double()
    )
    for name, want in zip(NAMES, wanted, strict=True):
        torch.testing.assert_close(
            getattr(found, name),
            want.float(),
            rtol=1e-5,
            atol=1e-4,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_gradients_of_the_whole_dictionary_match_autograd() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(20, 8).double(), torch.randn(20, 8).double()
    encoder, bias, decoder = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((30, 8), (30,), (30, 8))
    )
    values, indices = reference.encode_topk(x, encoder, bias, 4)
    xhat = reference.decode(values, indices, decoder)
    (xhat - target).square().sum().backward()
    codes = Codes(values=values.detach().float(), indices=indices.int(), features=30)
    grad = (2 * (xhat - target)).detach()
    found = sparse_gradients(codes, grad.float(), x.float(), decoder.detach().float())
    for name, parameter in (("decoder", decoder), ("encoder", encoder), ("encoder_bias", bias)):
        assert parameter.grad is not None
        torch.testing.assert_close(
            getattr(found, name).double(),
            parameter.grad,
            rtol=1e-5,
            atol=1e-4,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_touched_rows_only_gives_the_same_rows_and_no_others() -> None:
    codes, grad, x, decoder = problem(6, 12, 500, 3)
    whole = sparse_gradients(codes, grad, x, decoder)
    part = sparse_gradients(codes, grad, x, decoder, touched_rows_only=True)
    assert whole.features is None
    assert part.features is not None
    assert part.features.tolist() == sorted(set(codes.indices[codes.values != 0].tolist()))
    assert torch.equal(part.values, whole.values)
    for name in NAMES[1:]:
        full = getattr(whole, name)
        assert torch.equal(getattr(part, name), full[part.features]), name
        rest = torch.ones(500, dtype=torch.bool)
        rest[part.features] = False
        assert not full[rest].any(), name


def test_ragged_codes_give_the_same_bits_as_fixed_ones() -> None:
    codes, grad, x, decoder = problem(20, 12, 50, 6)
    fixed = sparse_gradients(codes, grad, x, decoder)
    ragged = sparse_gradients(codes.to_ragged(), grad, x, decoder)
    for name in NAMES[1:]:
        assert torch.equal(getattr(fixed, name), getattr(ragged, name)), name


@pytest.mark.parametrize("touched_rows_only", [False, True])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "lengths", [[3, 0, 5, 1], [0, 0], [1], [], [0, 9, 0]], ids=lambda lengths: str(lengths)
)
def test_ragged_gradients_match_the_dense_reference(
    lengths: list[int], device: str, touched_rows_only: bool
) -> None:
    codes = ragged(lengths, 9)
    grad, x, decoder = (torch.randn(rows, 5) for rows in (len(lengths), len(lengths), 9))
    with path(device):
        found = sparse_gradients(codes, grad, x, decoder, touched_rows_only=touched_rows_only)
    check_ragged(found, codes, grad, x, decoder)


@pytest.mark.parametrize("touched_rows_only", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_a_feature_that_fires_on_every_ragged_row_is_summed_whole(
    device: str, touched_rows_only: bool
) -> None:
    lengths = [1 + row % 2 for row in range(150)]  # more entries than a segment holds
    indices = torch.cat([torch.tensor([2, 0][:length]) for length in lengths]).int()
    codes = Codes(
        values=torch.rand(len(indices)) + 0.5,
        indices=indices,
        features=4,
        offsets=torch.tensor([0, *lengths]).cumsum(0),
    )
    grad, x, decoder = torch.randn(150, 6), torch.randn(150, 6), torch.randn(4, 6)
    with path(device):
        found = sparse_gradients(codes, grad, x, decoder, touched_rows_only=touched_rows_only)
    check_ragged(found, codes, grad, x, decoder)


@pytest.mark.parametrize("device", DEVICES)
def test_touched_rows_of_no_entries_are_none(device: str) -> None:
    codes = Codes(
        values=torch.zeros(3, 2), indices=torch.zeros(3, 2, dtype=torch.int32), features=7
    )
    grad, x, decoder = torch.randn(3, 4), torch.randn(3, 4), torch.randn(7, 4)
    with path(device):
        for given in (codes, codes.to_ragged()):
            found = sparse_gradients(given, grad, x, decoder, touched_rows_only=True)
            assert found.features is not None
            assert found.features.numel() == 0
            assert found.decoder.shape == (0, 4)
            assert found.encoder.shape == (0, 4)
            assert found.encoder_bias.shape == (0,)
            assert not found.values.any()


@pytest.mark.parametrize("device", DEVICES)
def test_ragged_gradients_refuse_what_does_not_fit(device: str) -> None:
    codes = ragged([3, 0, 2], 9)
    assert codes.offsets is not None
    grad, x, decoder = torch.randn(3, 5), torch.randn(3, 5), torch.randn(9, 5)
    with path(device):
        with pytest.raises(ShapeError, match=r"grad is \(2, 5\); \[3, 5\] is wanted"):
            sparse_gradients(codes, grad[:2], x, decoder)
        for offsets in ([0, 3, 2, 5], [1, 3, 3, 5], [0, 3, 3, 4]):
            torn = Codes(
                values=codes.values,
                indices=codes.indices,
                features=9,
                offsets=torch.tensor(offsets),
            )
            with pytest.raises(InvalidInput, match="never fall, and end at 5"):
                sparse_gradients(torn, grad, x, decoder)
        wrong = Codes(
            values=codes.values, indices=codes.indices + 9, features=9, offsets=codes.offsets
        )
        with pytest.raises(InvalidInput, match="indices span"):
            sparse_gradients(wrong, grad, x, decoder, touched_rows_only=True)


def test_gradients_refuse_what_does_not_fit() -> None:
    codes, grad, x, decoder = problem(6, 12, 50, 3)
    with pytest.raises(ShapeError, match=r"grad is \(5, 12\); \[6, 12\] is wanted"):
        sparse_gradients(codes, grad[:5], x, decoder)
    with pytest.raises(ShapeError, match=r"x is \(6, 11\); \[6, 12\] is wanted"):
        sparse_gradients(codes, grad, x[:, :11], decoder)
    with pytest.raises(ShapeError, match=r"grad is torch\.float64"):
        sparse_gradients(codes, grad.double(), x, decoder)
    wrong = Codes(values=codes.values, indices=codes.indices - 50, features=50)
    with pytest.raises(InvalidInput, match="indices span"):
        sparse_gradients(wrong, grad, x, decoder)
