# pyright: reportArgumentType=false, reportCallIssue=false
# (kernels are launched directly: constants are declared tl.constexpr, and given as numbers)
"""Offsets beyond int32: far programs of every kernel give the bits of the same ones near by.

The memory is reserved and never touched but in a few places.
"""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton")
if not triton.knobs.runtime.interpret:
    pytest.skip("triton runs on a device here", allow_module_level=True)

from isogloss.kernels import Codes, cpu, gpu, reference  # noqa: E402 (after the check above)  # noqa: E402
from isogloss.kernels.gpu import decode as gpu_decode  # noqa: E402
from isogloss.kernels.gpu import encode as gpu_encode  # noqa: E402
from isogloss.kernels.gpu import gradients as gpu_gradients  # noqa: E402
from isogloss.kernels.gpu import repair as gpu_repair  # noqa: E402
from isogloss.kernels.gpu.dealing import dealt, program_of  # noqa: E402
from isogloss.kernels.testing.far import displaced  # noqa: E402
from isogloss.kernels.testing.interpreter import interpreter  # noqa: E402

BIG = 1 << 31
WIDTH = 64
FAR = BIG // WIDTH + 3
"""A row whose offset, in a matrix of that width, is beyond int32."""


def far_matrix(near: Tensor, first: int = FAR) -> Tensor:
    """A matrix whose rows from ``first`` on are ``near``; the others were never touched."""
    out = torch.empty(first + len(near), near.shape[1], dtype=near.dtype)
    out[first:] = near
    return out


def whole(low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high + 1, shape).float()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("on_triton", [True, False])
def test_features_far_out_are_decoded_and_their_slopes_taken(on_triton: bool) -> None:
    dtype = torch.bfloat16 if on_triton else torch.float32  # the CPU would convert every row
    near, values = whole(-3, 3, 4, WIDTH).to(dtype), whole(1, 5, 2, 3)
    places = torch.tensor([[0, 2, 1], [3, 0, 2]], dtype=torch.int32)
    weight, grad = far_matrix(near), whole(-2, 2, 2, WIDTH)
    assert (weight.shape[0] - 1) * WIDTH > BIG
    codes = Codes(values=values, indices=places + FAR, features=len(weight))
    wanted = reference.decode(values, places, near.float())
    path = gpu if on_triton else cpu
    with interpreter() if on_triton else nullcontext():
        out = path.decode.decode(codes, weight, None)
        squares, residual = path.decode.decode_loss(codes, weight, None, grad)
        slopes = path.gradients.value_slopes(codes, grad, weight)
    assert torch.equal(out, wanted.to(dtype))
    assert torch.equal(residual, wanted - grad)
    assert torch.equal(squares, (wanted - grad).square().sum(1))
    assert torch.equal(slopes, (grad[:, None] * near.float()[places.long()]).sum(-1))


def test_rows_far_out_are_decoded_and_their_slopes_taken() -> None:
    k = 32
    values, places = whole(1, 5, 2, k), torch.randint(0, 9, (2, k), dtype=torch.int32)
    weight, target = whole(-3, 3, 9, WIDTH), whole(-2, 2, 2, WIDTH)
    at = BIG // k + 5
    out, squares, slopes = (torch.empty(at + 2, size) for size in (WIDTH, 1, k))
    v, i, t = (far_matrix(part, at) for part in (values, places, target))
    sizes = {"WIDTH": WIDTH, "RAGGED": False}
    with interpreter(), displaced(x=at):
        gpu_decode._decode_kernel[(2,)](
            v, i, v, weight, weight, t, out, squares, WIDTH, k, BIAS=False, LOSS=True, **sizes
        )
        gpu_gradients._slopes_kernel[(2,)](i, i, t, weight, slopes, WIDTH, k, **sizes)
    left = reference.decode(values, places, weight) - target
    assert torch.equal(out[at:], left)
    assert torch.equal(squares[at:, 0], left.square().sum(1))
    assert torch.equal(slopes[at:], (target[:, None] * weight[places.long()]).sum(-1))


def test_entries_far_out_are_summed_into_features_far_out() -> None:
    """Two features, of 3 and of 1 entry, far out in every list; the second's program is further."""
    k, feature, begin, entry = 32, FAR, BIG + 10, BIG + 20
    assert (entry // k) * WIDTH > BIG
    row = entry // k
    values, grad, x = whole(1, 5, 4, 1), whole(-2, 2, 1, WIDTH), whole(-2, 2, 1, WIDTH)
    decoder = whole(-1, 1, 2, WIDTH)
    lists = {
        "order": torch.arange(entry, entry + 4)[:, None],
        "starts": torch.tensor([[begin], [begin + 3], [begin + 4]]),
    }
    order, starts = far_matrix(lists["order"], begin), far_matrix(lists["starts"], feature)
    rows = far_matrix(torch.full((4, 1), row, dtype=torch.int32), entry)
    outs = [torch.empty(entry + 4)] + [torch.empty(feature + 2, size) for size in (WIDTH, WIDTH, 1)]
    none = torch.empty(1, dtype=torch.int32)
    with interpreter(), displaced(x=feature):
        gpu_gradients._features_kernel[(2,)](
            *(order, rows, none, starts, none),
            far_matrix(values, entry),
            *(far_matrix(part, row) for part in (grad, x)),
            far_matrix(decoder, feature),
            *(*outs, torch.empty(1), torch.empty(1)),
            *(feature + 2, feature + 2, WIDTH, 0),
            RAGGED=True,
            LISTED=False,
            SEGMENT=gpu_gradients.SEGMENT,
            BOTH=True,
            WIDTH=WIDTH,
        )
    slopes = (grad @ decoder.T)[0]
    shares = torch.tensor([3.0, 1.0])
    weights = torch.stack((values[:3].sum(), values[3].sum()))
    assert torch.equal(outs[0][entry:], slopes.repeat_interleave(shares.int()))
    assert torch.equal(outs[1][feature:], weights[:, None] * grad)
    assert torch.equal(outs[2][feature:], (slopes * shares)[:, None] * x)
    assert torch.equal(outs[3][feature:, 0], slopes * shares)


def test_parts_far_out_are_added() -> None:
    width, slot = 8, BIG // 16 + 3
    segment = gpu_gradients.SEGMENT
    starts = torch.tensor([slot * segment + 3, (slot + 2) * segment + 1])
    partial, bias = (
        far_matrix(whole(-3, 3, 4, width), 2 * slot),
        far_matrix(whole(1, 3, 2, 1), slot),
    )
    out = [torch.ones(1, width), torch.ones(1, width), torch.ones(1)]
    with interpreter():
        gpu_gradients._add_parts_kernel[(1,)](
            *(starts, starts, partial, bias, *out, width),
            LISTED=False,
            SEGMENT=segment,
            BOTH=True,
            WIDTH=width,
        )
    pairs = partial[2 * slot :].view(2, 2, width).sum(0)
    assert torch.equal(out[0][0], 1 + pairs[0])
    assert torch.equal(out[1][0], 1 + pairs[1])
    assert torch.equal(out[2], 1 + bias[slot:].sum(0))


def test_rows_and_programs_far_out_are_encoded() -> None:
    """The last of two million programs, of rows that lie beyond int32 in ``x`` and in the lists."""
    width, kept, programs, rows, stride = 16, 4, (1 << 21) + 3, 16, BIG // 256 + 16
    tile = {"ROWS": rows, "COLUMNS": 32, "TILES": 2, "KEPT": kept, "DEPTH": 16}
    features, tiles = 64 * programs, 17
    first = tiles * rows
    assert first * stride > BIG
    assert features * width > BIG
    assert first * programs * kept > BIG
    near_x, near = whole(-2, 2, rows, width).bfloat16(), whole(-1, 1, 64, width).bfloat16()
    x = torch.empty((first + rows) * stride, dtype=torch.bfloat16).view(-1, stride)[:, :width]
    x[first:] = near_x
    weight, bias = torch.empty(features, width, dtype=torch.bfloat16), torch.zeros(1).expand(1)
    own = dealt(torch.arange(64), programs - 1, programs)
    weight[own] = near
    offsets = torch.empty(features)
    offsets[own] = bias
    keys = torch.empty(first + rows, programs, kept, dtype=torch.int32)
    places = torch.empty(first + rows, programs, kept, dtype=torch.int16)
    sizes = (first + rows, features, width, programs, stride)
    with interpreter(), displaced(x=tiles, y=programs - 1):
        gpu_encode._candidates_kernel[(1, 1)](x, weight, offsets, keys, places, *sizes, **tile)
    pre = (near_x.float() @ near.float().T).relu()
    wanted = pre.topk(kept, dim=1).values
    found, order = keys[first:, -1].view(torch.float32).sort(dim=1, descending=True)
    assert torch.equal(found, wanted)
    chosen = places[first:, -1].long().gather(1, order)
    assert torch.equal(pre.gather(1, chosen), wanted)


def test_rows_far_out_are_selected_and_repaired() -> None:
    """A row beyond int32 in every list, where one program hides winners: equal to the same near."""
    k, kept, programs, width, span = 7, 4, 8, 16, 32
    row = BIG // (programs * kept) + 7
    tile = {"ROWS": 16, "COLUMNS": span, "TILES": 1, "DEPTH": 16}
    x, weight = whole(-2, 2, 1, width), whole(-1, 1, span * programs, width)
    bias = torch.where(program_of(len(weight), programs) == 3, 100.0, 0.0)
    wanted, order = reference.encode_topk(x, weight, bias, k)
    lists = {"KEPT": kept, "PADDED": 16, "GROUPS": 8}
    near_keys = torch.empty(1, programs, kept, dtype=torch.int32)
    near_places = torch.empty(1, programs, kept, dtype=torch.int16)
    sizes = (span * programs, width, programs)
    out = torch.empty(row + 1, k), torch.empty(row + 1, k, dtype=torch.int32)
    flags = torch.empty(row + 1, dtype=torch.int32)
    ranks = torch.empty(row + 1, programs, dtype=torch.int16)
    listed = torch.empty(programs, row + 1, dtype=torch.int32)
    counts = (torch.arange(programs) == 3).int()
    dense = torch.empty(row + 1, 1, span, dtype=torch.int32)
    with interpreter():
        gpu_encode._candidates_kernel[(1, programs)](
            x, weight, bias, near_keys, near_places, 1, *sizes, width, KEPT=kept, **tile
        )
        keys = far_matrix(near_keys.view(1, -1), row)
        places = far_matrix(near_places.view(1, -1), row)
        found = (keys, places, *out, flags, ranks)
        with displaced(x=row):
            gpu_encode._select_kernel[(1,)](*found, k, programs, HIDES=True, **lists)
        assert not torch.equal(out[1][row], order[0].int())
        assert ranks[row].tolist() == [-1, -1, -1, 0, -1, -1, -1, -1]
        listed[3, 0] = row
        gpu_repair._again_kernel[(1, programs)](
            *(far_matrix(x, row), weight, bias, bias, listed, counts, ranks, dense),
            *(row + 1, *sizes, width, 1),
            MASKED=False,
            **tile,
        )
        with displaced(x=row):
            gpu_repair._merge_kernel[(1,)](
                *(*found, dense, k, programs, 1), SPAN=span, WIDE=32, **lists
            )
    assert flags[row] == 1
    assert torch.equal(out[0][row], wanted[0])
    assert torch.equal(out[1][row], order[0].int())


def test_places_become_int64_before_a_segment_passes_int32() -> None:
    """The lists of 2**31 entries do not fit here; the choice of their dtype is what is tested."""
    few = Codes(values=torch.ones(3, 1), indices=torch.zeros(3, 1, dtype=torch.int32), features=1)
    assert gpu_gradients._plan(few).starts.dtype == torch.int32
    for entries, wanted in (
        (BIG - gpu_gradients.SEGMENT - 1, torch.int32),
        (BIG - gpu_gradients.SEGMENT, torch.int64),
        (BIG, torch.int64),
    ):
        assert gpu_gradients.places_dtype(entries) == wanted
