"""Every operation against float64, to the bit, one tensor at a time, on any device.

The inputs are those of ``properties``: small whole numbers, on which every dtype and every order of
sums is exact. A function yields the name of a tensor, what was found and what is wanted;
:func:`differing` counts them. Tests on a device and ``benchmarks/device.py`` ask the same.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from isogloss.kernels import reference
from isogloss.kernels.aux_topk import encode_topk_aux
from isogloss.kernels.batch_topk import encode_batch_topk
from isogloss.kernels.coactivation import coactivation, coactivation_blocks, feature_moments
from isogloss.kernels.decode import decode, decode_loss
from isogloss.kernels.encode import encode_topk
from isogloss.kernels.gradients import feature_sums, sparse_gradients, value_slopes
from isogloss.kernels.prefixes import decode_prefixes
from isogloss.kernels.testing.properties import (
    Inputs,
    _codes,
    _decoded,
    _gradients,
    _moved,
    _places,
)
from isogloss.kernels.threshold import encode_threshold
from isogloss.kernels.values.codes import Codes

_EXACT = 1 << 24
"""Whole numbers below it are exact in float32."""


class Check(NamedTuple):
    """One tensor of one operation."""

    name: str
    """Of the operation and the tensor."""
    found: Tensor
    """By the kernels."""
    wanted: Tensor
    """By the reference, in float64 or whole numbers."""

    @property
    def holds(self) -> bool:
        """Whether the two are equal to the bit of ``found``; NaN equals NaN."""
        found = self.found.detach().cpu()
        wanted = self.wanted.detach().cpu().to(found.dtype)
        if found.shape != wanted.shape:
            return False
        return bool(((found == wanted) | ((found != found) & (wanted != wanted))).all())


def differing(checks: Iterable[Check]) -> tuple[int, list[str]]:
    """Count the checks, and name those that do not hold."""
    count, wrong = 0, list[str]()
    for check in checks:
        count += 1
        if not check.holds:
            wrong.append(check.name)
    return count, wrong


def encoders(inputs: Inputs, k: int, dtype: torch.dtype, device: str) -> Iterator[Check]:
    """``encode_topk``, ``encode_threshold``, ``encode_batch_topk`` and ``encode_topk_aux``.

    Args:
        inputs: with finite weights.
        k: entries a row.
        dtype: of rows and weights.
        device: to compute on.

    Yields:
        Values and indices of each, and offsets where they are ragged.
    """
    given = [part.to(device, dtype) for part in (inputs.x, inputs.weight, inputs.bias)]
    exact = (inputs.x, inputs.weight, inputs.bias)
    codes = encode_topk(given[0], given[1], given[2], k)
    values, indices = reference.encode_topk(*exact, k)
    yield Check("encode_topk indices", codes.indices, indices)
    yield Check("encode_topk values", codes.values, values)
    limits = torch.arange(len(inputs.bias)) % 5
    found = encode_threshold(given[0], given[1], given[2], limits.float().to(device))
    yield from _ragged("encode_threshold", found, reference.encode_threshold(*exact, limits))
    batch = encode_batch_topk(given[0], given[1], given[2], k)
    wanted = reference.encode_batch_topk(*exact, k)
    yield from _ragged("encode_batch_topk", batch.codes, wanted[:3])
    yield Check("encode_batch_topk threshold", batch.threshold, wanted[3])
    mask = torch.arange(len(inputs.bias)) % 3 == 0
    aux_k = min(k + 2, int(mask.sum()))
    both = encode_topk_aux(given[0], given[1], given[2], k, mask.to(device), aux_k)
    parts = reference.encode_topk_aux(*exact, k, mask, aux_k)
    yield Check("encode_topk_aux values", both.codes.values, parts[0])
    yield Check("encode_topk_aux indices", both.codes.indices, parts[1])
    yield Check("encode_topk_aux values under the mask", both.aux.values, parts[2])
    yield Check("encode_topk_aux indices under the mask", both.aux.indices, parts[3])


def _ragged(name: str, codes: Codes, wanted: tuple[Tensor, Tensor, Tensor]) -> Iterator[Check]:
    offsets = codes.offsets if codes.offsets is not None else torch.zeros(0)
    found = (codes.values, codes.indices, offsets)
    for part, tensor, want in zip(("values", "indices", "offsets"), found, wanted, strict=True):
        yield Check(f"{name} {part}", tensor, want)


def decoders(
    inputs: Inputs, k: int, dtype: torch.dtype, device: str, *, ragged: bool
) -> Iterator[Check]:
    """``decode``, ``decode_loss``, ``decode_prefixes`` and every gradient of the sparse codes.

    Args:
        inputs: of finite numbers.
        k: entries a row.
        dtype: of rows and weights.
        device: to compute on.
        ragged: whether the codes are.

    Yields:
        Each result, those of touched rows and of sums included.
    """
    codes = _codes(inputs, k, ragged=ragged)
    moved, said = _moved(codes, device), " ragged" if ragged else ""
    grad, x, weight = (part.to(device, dtype) for part in (inputs.grad, inputs.x, inputs.weight))
    sums = _decoded(codes, inputs.weight)
    yield Check(f"decode{said}", decode(moved, weight, grad[0]), (sums + inputs.grad[0]).to(dtype))
    left = decode_loss(moved, weight, grad)
    residual = sums - inputs.grad
    yield Check(f"decode_loss{said} residual", left.residual, residual)
    norms = residual.square().sum(1)
    if norms.max() < _EXACT:
        yield Check(f"decode_loss{said} norms", left.squared_norms, norms)
    edges = sorted({1, max(1, codes.features // 3), codes.features})
    rows, features = _places(codes)
    for edge, found in zip(edges, decode_prefixes(moved, weight, edges), strict=True):
        kept = codes.with_values(torch.where(codes.indices < edge, codes.values, 0.0))
        wanted = _decoded(kept, inputs.weight).to(dtype)
        yield Check(f"decode_prefixes{said} {edge}", found, wanted)
    slopes = (inputs.grad[rows] * inputs.weight[features]).sum(1)
    yield Check(f"slopes{said}", value_slopes(moved, grad, weight).reshape(-1), slopes)
    gradients = _gradients(codes, inputs)
    whole = sparse_gradients(moved, grad, x, weight)
    part = sparse_gradients(moved, grad, x, weight, touched_rows_only=True)
    touched = torch.unique(codes.indices[codes.values != 0]).long()
    for name, wanted in gradients.items():
        found = getattr(whole, name)
        yield Check(f"gradient{said} to {name}", found, wanted.reshape(found.shape))
        if name != "values":
            yield Check(f"touched{said} to {name}", getattr(part, name), wanted[touched])
    total, _ = feature_sums(moved, x)
    dense = torch.zeros(codes.rows, codes.features, dtype=torch.float64)
    dense.index_put_((rows, features), codes.values.reshape(-1).double(), accumulate=True)
    yield Check(f"feature sums{said}", total, dense.T @ inputs.x)


def autograd(inputs: Inputs, k: int, dtype: torch.dtype, device: str) -> Iterator[Check]:
    """Gradients through ``encode_topk`` and ``decode``, against autograd in float64.

    Args:
        inputs: of finite numbers.
        k: entries a row.
        dtype: of rows and weights.
        device: to compute on.

    Yields:
        The gradient to each argument.

    Raises:
        AssertionError: a gradient did not arrive.
    """
    start = (inputs.x, inputs.weight, inputs.bias, inputs.weight.flip(0), inputs.grad[0])
    mine = [part.to(device, dtype).requires_grad_() for part in start]
    theirs = [part.clone().requires_grad_() for part in start]
    codes = encode_topk(mine[0], mine[1], mine[2], k)
    decode(codes, mine[3], mine[4]).backward(inputs.grad.to(device, dtype))
    dense = reference.encode_topk(theirs[0], theirs[1], theirs[2], k)
    reference.decode(*dense, theirs[3], theirs[4]).backward(inputs.grad)
    names = ("x", "encoder", "bias", "decoder", "decoder bias")
    for name, found, want in zip(names, mine, theirs, strict=True):
        if found.grad is None or want.grad is None:
            raise AssertionError(f"no gradient reached {name}")
        yield Check(f"autograd to {name}", found.grad, want.grad.to(dtype))


def pairs(rows: int, features: tuple[int, int], k: int, seed: int, device: str) -> Iterator[Check]:
    """``coactivation``, its blocks and ``feature_moments``, of codes with a hot feature.

    Args:
        rows: of both codes.
        features: of the one and of the other.
        k: entries a row, fewer than either's features.
        seed: of the codes; where it is odd their values are negative.
        device: to compute on.

    Yields:
        Sums, rows in common, and partners by Jaccard's index.
    """
    generator = torch.Generator().manual_seed(seed)
    own: list[Codes] = []
    for count in features:
        indices = 1 + torch.rand(rows, count - 1, generator=generator).argsort(1)[:, :k]
        indices[:, 0] = 0
        values = torch.randint(1, 9, (rows, k), generator=generator).float() * (-1) ** seed
        own.append(Codes(values=values, indices=indices.int(), features=count))
    a, b = (reference.dense(codes) for codes in own)
    first, second = (_moved(codes, device) for codes in own)
    blocks = list(coactivation_blocks(first, second, block=50))
    both = (a != 0).double().T @ (b != 0).double()
    yield Check("coactivation products", torch.cat([part.products for part in blocks]), a.T @ b)
    yield Check("coactivation rows", torch.cat([part.cofires for part in blocks]), both)
    moments = feature_moments(first)
    yield Check("moments total", moments.total, a.sum(0))
    yield Check("moments squares", moments.squares, a.square().sum(0))
    yield Check("moments fires", moments.fires, (a != 0).sum(0))
    partners = coactivation(first, second, count=min(3, features[1]), measure="jaccard")
    wanted, scores = reference.best_partners(reference.jaccard(a, b), both, 3, 0)
    yield Check("coactivation partners", partners.indices, wanted)
    yield Check("coactivation scores", partners.scores, scores)
