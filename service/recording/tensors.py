"""Convert the rows of a live model to the numpy arrays that the store takes. Imports torch."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import ShapeError
from isogloss.store import SiteSpec

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
)
"""How a number is kept, as torch names it."""


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
    if rows.ndim != 2 or rows.shape[1] != site.width:
        raise ShapeError(f"site {site.name!r} gave {list(rows.shape)}, wanted [rows, {site.width}]")
    wanted = DTYPES[site.dtype]
    plain = rows.detach().to(device="cpu", dtype=wanted).contiguous()
    # numpy knows no bfloat16 of torch's: the bits pass as integers
    bits = plain.view(torch.int16) if wanted == torch.bfloat16 else plain
    return bits.numpy().view(site.numpy_dtype)
