"""Checks of the Triton kernels against float64, on any device that runs them.

Every input is a small whole number, so that sums of any order and in every dtype are exact, and
found and wanted must be equal to the bit. The functions raise AssertionError with the name of the
tensor that differs. A CPU device wants :func:`isogloss.kernels.testing.interpreter.interpreter`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.kernels import reference
from isogloss.kernels.decode import decode, decode_loss
from isogloss.kernels.encode import encode_topk
from isogloss.kernels.gpu import encode as gpu_encode
from isogloss.kernels.gpu.configs import EncodeConfig
from isogloss.kernels.gpu.dealing import program_of
from isogloss.kernels.gradients import feature_sums, sparse_gradients, value_slopes
from isogloss.kernels.testing.interpreter import poisoned
from isogloss.kernels.values.codes import Codes

KINDS = (
    "ties",
    "duplicates",
    "negative",
    "few positive",
    "one program",
    "matryoshka",
    "frequency",
    "hot",
    "zero rows",
    "nan row",
    "inf row",
    "nan and inf weights",
)
"""The inputs :func:`draw` knows."""

NON_FINITE = ("nan row", "inf row", "nan and inf weights")
"""Those of them that hold NaN or infinity."""

_NAN, _INF = float("nan"), float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Arguments of encode and decode, in float64."""

    x: Tensor
    """``[rows, width]``, whole numbers in [-2, 2]."""
    weight: Tensor
    """Encoder and decoder, ``[features, width]``, whole numbers in [-1, 1]."""
    bias: Tensor
    """``[features]``."""
    grad: Tensor
    """``[rows, width]``, whole numbers in [-2, 2]."""


def draw(kind: str, rows: int, width: int, features: int, seed: int) -> Inputs:
    """Inputs of one of :data:`KINDS`; pre-activations are whole numbers below 256 in size."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator).double()

    x, weight = whole(-2, 2, rows, width), whole(-1, 1, features, width)
    bias, grad = whole(-3, 3, features), whole(-2, 2, rows, width)
    if kind == "duplicates":
        weight[features // 2 :] = weight[: features - features // 2].clone()
        bias[features // 2 :] = bias[: features - features // 2].clone()
    elif kind == "negative":
        bias -= 200
    elif kind == "few positive":
        bias[2:] -= 200
    elif kind == "one program":  # winners among the features that one program of 64 holds
        bias[program_of(features, -(-features // 64)) == 0] += 100
    elif kind == "matryoshka":  # a prefix wins over the prefix after it
        bias += 40 * torch.tensor([3 - min(3, (4 * f) // features) for f in range(features)])
    elif kind == "frequency":
        bias += torch.linspace(60, -60, features, dtype=torch.float64).round()
    elif kind == "hot":
        bias[features // 2] += 100
    elif kind == "zero rows":
        x[::2] = 0
    elif kind == "nan row":
        x[0, 0] = _NAN
    elif kind == "inf row":
        x[0, 0] = _INF
    elif kind == "nan and inf weights":
        weight[features // 2, 0], bias[features - 1] = _INF, _NAN
    return Inputs(x=x, weight=weight, bias=bias, grad=grad)


def whole_numbers(rows: int, width: int, features: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, directions and bias whose products every dtype sums exactly.

    They are whole numbers below 2**8, drawn by torch's own generator.

    Args:
        rows: number of rows of ``x``.
        width: number of columns.
        features: number of features.

    Returns:
        ``[rows, width]``, ``[features, width]`` and ``[features]``, float32.
    """
    x = torch.randint(-2, 3, (rows, width)).float()
    weight = torch.randint(-1, 2, (features, width)).float()
    return x, weight, torch.randint(-3, 4, (features,)).float()


def check_encode(
    inputs: Inputs,
    k: int,
    dtype: torch.dtype,
    config: EncodeConfig | None = None,
    device: str = "cpu",
) -> Tensor:
    """``encode_topk`` is exact and breaks ties by the lowest feature; returns who was repaired."""
    given = [part.to(device, dtype) for part in (inputs.x, inputs.weight, inputs.bias)]
    with poisoned():
        values, indices, repaired = gpu_encode.encode_topk(given[0], given[1], given[2], k, config)
    wanted, order = reference.encode_topk(inputs.x, inputs.weight, inputs.bias, k)
    _same("indices", indices, order.int())
    _same("values", values, wanted.float())
    return repaired


def check_decode(
    inputs: Inputs, k: int, dtype: torch.dtype, *, ragged: bool, device: str = "cpu"
) -> None:
    """``decode``, ``decode_loss`` and the gradient to the values."""
    codes = _codes(inputs, k, ragged=ragged)
    moved = _moved(codes, device)
    grad, weight = (part.to(device, dtype) for part in (inputs.grad, inputs.weight))
    with poisoned():
        out = decode(moved, weight, grad[0])
        bare = decode(moved, weight)
        left = decode_loss(moved, weight, grad, grad[0])
        slopes = value_slopes(moved, grad, weight)
    sums = _decoded(codes, inputs.weight)
    _same("decode", out, (sums + inputs.grad[0]).to(dtype))
    _same("decode without bias", bare, sums.to(dtype))
    residual = sums + inputs.grad[0] - inputs.grad
    _same("residual", left.residual, residual.float())
    _same("squared norms", left.squared_norms, residual.square().sum(1).float())
    rows, features = _places(codes)
    wanted = (inputs.grad[rows] * inputs.weight[features]).sum(1)
    _same("value slopes", slopes.reshape(-1), wanted.float())


def check_gradients(
    inputs: Inputs, k: int, dtype: torch.dtype, *, ragged: bool, device: str = "cpu"
) -> None:
    """``sparse_gradients``, whole and of touched rows only, and ``feature_sums``; NaN rows too."""
    codes = _codes(inputs, k, ragged=ragged)
    moved = _moved(codes, device)
    grad, x, decoder = (part.to(device, dtype) for part in (inputs.grad, inputs.x, inputs.weight))
    with poisoned():
        found = sparse_gradients(moved, grad, x, decoder)
        part = sparse_gradients(moved, grad, x, decoder, touched_rows_only=True)
        sums, totals = feature_sums(moved, x)
    wanted = _gradients(codes, inputs)
    for name, tensor in wanted.items():
        _same(name, getattr(found, name), tensor.reshape(getattr(found, name).shape).float())
    touched = torch.unique(codes.indices[codes.values != 0]).long()
    if part.features is None:
        raise AssertionError("touched_rows_only did not name the features")
    _same("touched features", part.features, touched)
    for name in ("decoder", "encoder", "encoder_bias"):
        _same(f"touched {name}", getattr(part, name), wanted[name][touched].float())
    _same("touched values", part.values, found.values.cpu())
    rows, features = _places(codes)
    values = codes.values.reshape(-1).double()
    there = values != 0
    sum_wanted = torch.zeros(codes.features, x.shape[1], dtype=torch.float64)
    sum_wanted.index_add_(0, features[there], (values[:, None] * inputs.x[rows])[there])
    _same("feature sums", sums, sum_wanted.float())
    total = torch.zeros(codes.features, dtype=torch.float64)
    _same("feature totals", totals, total.index_add_(0, features[there], values[there]).float())


def check_autograd(inputs: Inputs, k: int, dtype: torch.dtype, device: str = "cpu") -> None:
    """Gradients through ``encode_topk`` and ``decode``, against autograd in float64 by name."""
    names = ("x", "encoder", "bias", "decoder", "decoder_bias")
    start = (inputs.x, inputs.weight, inputs.bias, inputs.weight.flip(0), inputs.grad[0])
    mine = [part.to(device, dtype).requires_grad_() for part in start]
    theirs = [part.clone().requires_grad_() for part in start]
    codes = encode_topk(mine[0], mine[1], mine[2], k)
    out = decode(codes, mine[3], mine[4])
    out.backward(inputs.grad.to(device, dtype))
    dense = reference.encode_topk(theirs[0], theirs[1], theirs[2], k)
    wanted = reference.decode(*dense, theirs[3], theirs[4])
    wanted.backward(inputs.grad)
    _same("output", out.detach(), wanted.detach().to(dtype))
    for name, found, want in zip(names, mine, theirs, strict=True):
        if found.grad is None or want.grad is None:
            raise AssertionError(f"no gradient reached {name}")
        _same(f"gradient to {name}", found.grad, want.grad.to(dtype))


def _codes(inputs: Inputs, k: int, *, ragged: bool) -> Codes:
    """The codes of ``inputs`` by the reference; where those are not finite, of clean ``x``."""
    x, weight, bias = (part.nan_to_num(1, 1, 1) for part in (inputs.x, inputs.weight, inputs.bias))
    values, indices = reference.encode_topk(x, weight, bias, k)
    fixed = Codes(values=values.float(), indices=indices.int(), features=weight.shape[0])
    return fixed.to_ragged() if ragged else fixed


def _moved(codes: Codes, device: str) -> Codes:
    return Codes(
        values=codes.values.to(device),
        indices=codes.indices.to(device),
        features=codes.features,
        offsets=None if codes.offsets is None else codes.offsets.to(device),
    )


def _places(codes: Codes) -> tuple[Tensor, Tensor]:
    """Row and feature of every entry, int64."""
    each = torch.arange(codes.rows)
    if codes.offsets is None:
        rows = each.repeat_interleave(codes.k)
    else:
        rows = each.repeat_interleave(codes.offsets.diff())
    return rows, codes.indices.reshape(-1).long()


def _decoded(codes: Codes, weight: Tensor) -> Tensor:
    rows, features = _places(codes)
    values = codes.values.reshape(-1).double()
    there = values != 0  # a feature of value 0 is not read: its direction may hold anything
    out = torch.zeros(codes.rows, weight.shape[1], dtype=torch.float64)
    return out.index_add_(0, rows[there], (values[:, None] * weight[features])[there])


def _gradients(codes: Codes, inputs: Inputs) -> dict[str, Tensor]:
    """Entry by entry, so that what is not finite reaches what it touches and nothing else."""
    rows, features = _places(codes)
    values = codes.values.reshape(-1).double()
    there = values != 0
    slopes = torch.where(there, (inputs.grad[rows] * inputs.weight[features]).sum(1), 0.0)
    rows, features, values, slope = rows[there], features[there], values[there], slopes[there]
    shape = (codes.features, inputs.x.shape[1])
    zeros = torch.zeros(shape, dtype=torch.float64)
    return {
        "values": slopes,
        "decoder": zeros.index_add(0, features, values[:, None] * inputs.grad[rows]),
        "encoder": zeros.index_add(0, features, slope[:, None] * inputs.x[rows]),
        "encoder_bias": zeros[:, 0].index_add(0, features, slope),
    }


def _same(name: str, found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(
        found.cpu(), wanted, rtol=0, atol=0, equal_nan=True, msg=lambda text: f"{name}: {text}"
    )
