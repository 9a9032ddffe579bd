"""Bring the rows of a live model to numpy arrays that the store takes. Imports torch.

Rows on the CPU are converted where they are used, in the recorder's own thread. Rows on a CUDA
device are converted there and copied on a stream of their own into pinned memory, while the loop
goes on; whoever reads them waits for the copy. The second has not been run on a device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import ShapeError
from isogloss.models import overflows
from isogloss.store import SiteSpec

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
)
"""How a number is kept, as torch names it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HostRows:
    """Rows of a site on the CPU, or on their way there."""

    tensor: Tensor
    """``[rows, width]``; of a copy that is under way only once ``arrived`` has happened."""
    arrived: torch.cuda.Event | None = None
    """Happens when a copy from a device is complete."""
    overflows: Tensor | None = None
    """How many numbers became infinite on a device, where the rows were converted there."""

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.tensor.nbytes

    def only(self, rows: NDArray[np.int64]) -> "HostRows":
        """Return some of the rows, copied; waits for a copy that is under way."""
        self.wait()
        return HostRows(tensor=self.tensor[torch.from_numpy(rows)], overflows=self.overflows)

    def wait(self) -> None:
        """Wait until the rows are on the CPU."""
        if self.arrived is not None:
            self.arrived.synchronize()


class HostCopies:
    """Brings rows to the CPU without holding up the thread that runs the model."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def start(self, rows: Tensor, dtype: torch.dtype) -> HostRows:
        """Return rows on the CPU as they are; begin a copy of those on a CUDA device.

        Args:
            rows: ``[rows, width]``, which nobody else changes.
            dtype: the dtype in which they will be stored.
        """
        if rows.device.type != "cuda":
            return HostRows(tensor=rows.detach().cpu())
        stream = self._streams.get(rows.device)
        if stream is None:
            stream = self._streams[rows.device] = torch.cuda.Stream(rows.device)
        stream.wait_stream(torch.cuda.current_stream(rows.device))
        with torch.cuda.stream(stream):
            stored = rows.detach().to(dtype)
            host = torch.empty(stored.shape, dtype=dtype, pin_memory=True)
            host.copy_(stored, non_blocking=True)
            overflows = torch.empty((), dtype=torch.int64, pin_memory=True)
            overflows.copy_(stored.isinf().sum() - rows.isinf().sum(), non_blocking=True)
            rows.record_stream(stream)
            arrived = torch.cuda.Event()
            arrived.record(stream)
        return HostRows(tensor=host, arrived=arrived, overflows=overflows)


def to_stored(rows: HostRows, site: SiteSpec) -> tuple[NDArray[np.generic], int]:
    """Return rows as numpy, and how many numbers are finite in them and infinite as stored.

    Args:
        rows: ``[rows, width]``; waits for a copy that is under way.
        site: the site that the rows are of; it gives width and dtype.

    Returns:
        ``[rows, width]`` in the site's dtype, and the count.

    Raises:
        ShapeError: the rows are not ``[rows, width]`` for the site's width.
    """
    rows.wait()
    kept = _kept(rows.tensor, site)
    lost = overflows(rows.tensor, kept) if rows.overflows is None else int(rows.overflows)
    return _as_numpy(kept, site), lost


def to_numpy(rows: Tensor, site: SiteSpec) -> NDArray[np.generic]:
    """Return the rows of a tensor on the CPU as numpy, uncopied where the dtype fits.

    Args:
        rows: ``[rows, width]``, on any device.
        site: the site that the rows are of; it gives width and dtype.

    Returns:
        ``[rows, width]`` in the site's dtype.

    Raises:
        ShapeError: the rows are not ``[rows, width]`` for the site's width.
    """
    return _as_numpy(_kept(rows, site), site)


def _kept(rows: Tensor, site: SiteSpec) -> Tensor:
    """Return rows on the CPU in the dtype that they are stored in."""
    if rows.ndim != 2 or rows.shape[1] != site.width:
        raise ShapeError(f"site {site.name!r} gave {list(rows.shape)}, wanted [rows, {site.width}]")
    return rows.detach().to(device="cpu", dtype=DTYPES[site.dtype]).contiguous()


def _as_numpy(kept: Tensor, site: SiteSpec) -> NDArray[np.generic]:
    # numpy knows no bfloat16 of torch's: the bits pass as integers
    bits = kept.view(torch.int16) if kept.dtype == torch.bfloat16 else kept
    return bits.numpy().view(site.numpy_dtype)
