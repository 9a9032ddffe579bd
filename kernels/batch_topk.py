"""Encode by the best entries of a whole batch: BatchTopK."""

from dataclasses import dataclass

from torch import Tensor

from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import cpu, gpu
from isogloss.kernels.arguments import checks
from isogloss.kernels.arguments.dispatch import takes_triton
from isogloss.kernels.encode import hold_choice
from isogloss.kernels.threshold import Repairs
from isogloss.kernels.values.codes import Codes
from isogloss.kernels.values.workspace import Workspace
from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchCodes:
    """Codes chosen among all entries of a batch, and the value at which the choice ends."""

    codes: Codes
    """Ragged and canonical: features ascend within a row, no zeros."""
    threshold: Tensor
    """Smallest value chosen, float32 without dimensions; 0 where no entry is positive. The mean
    over training batches is the threshold of inference."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if not self.codes.is_ragged:
            raise InvalidInput("codes have k entries a row; ragged ones are wanted (to_ragged())")
        if self.threshold.ndim != 0:
            raise ShapeError(
                f"threshold is {tuple(self.threshold.shape)}; a tensor without dimensions is wanted"
            )


def encode_batch_topk(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    k: int,
    *,
    workspace: Workspace | None = None,
    repairs: Repairs | None = None,
) -> BatchCodes:
    """Keep the ``k * rows`` largest positive entries of ``x @ weight.T + bias`` of the whole batch.

    The choice is exact, by (value descending, row ascending, feature ascending), so ties are
    deterministic; NaN ranks above infinity. Where fewer entries are positive, all are kept. A row
    may get none, or more than ``k``. Differentiable in ``x``, ``weight`` and ``bias`` (the choice
    of entries is held fixed). See Bussmann et al. 2024 (arXiv:2412.06410). At inference, where a
    row must not depend on others, ``encode_threshold`` takes a mean of the thresholds; it asks for
    values above it, where the smallest value chosen here is the threshold itself.

    Args:
        x: ``[rows, width]``; float32, bfloat16 or float16.
        weight: encoder directions, ``[features, width]``, contiguous.
        bias: ``[features]``.
        k: mean entries a row, in ``[1, features]``.
        workspace: scratch memory to reuse between calls.
        repairs: counts repaired tiles, added to what it holds.

    Returns:
        The codes, ragged, and the smallest value chosen.

    Raises:
        ShapeError: a shape, dtype, device or stride does not fit.
        InvalidInput: ``k`` is not in ``[1, features]``; ``weight`` or ``bias`` is not finite (see
            ``encode_topk``).
    """
    checks.encoder(x, weight, bias)
    checks.k_within(k, weight.shape[0])
    inputs = (x.detach(), weight.detach(), bias.detach())
    if takes_triton(x):
        codes, threshold, tiles, repaired = gpu.batch_topk.encode_batch_topk(*inputs, k)
        if repairs is not None:
            repairs.tiles += tiles
            repairs.repaired += repaired
    else:
        scratch = workspace or Workspace()
        codes, threshold = cpu.batch_topk.encode_batch_topk(*inputs, k, scratch)
    return BatchCodes(codes=hold_choice(codes, x, weight, bias), threshold=threshold)
