# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUntypedFunctionDecorator=false
# (numba compiles these functions from the arguments they meet; pyright sees them untyped)
"""Gradient rows that stay between the pass that measures them and the one that moves by them.

A bound on the gradient of all parameters wants their norm before any of them moves, so gradients
are summed in one pass and used in the next. A feature with few entries is summed twice instead:
that costs less than to write its two rows and read them again.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from isogloss.kernels.values.workspace import Workspace

_BYTES = 24 << 20
_WORTH_KEEPING = 4
"""Entries of a feature from which on its gradient is kept rather than summed twice."""

KeptRows = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Row of each feature, -1 where its gradient is not kept (empty: none is); and the rows."""


def nothing_kept() -> KeptRows:
    """Return room for no gradient."""
    return np.empty(0, np.int32), np.empty((0, 0), np.float32)


def room_to_keep(counts: Tensor, numbers: int, workspace: Workspace) -> KeptRows:
    """Return room for the gradients that are worth keeping, at most 24 MiB.

    Args:
        counts: entries of each feature, integers ``[features]``.
        numbers: numbers in the gradient of one feature.
        workspace: the rows lie in its buffer of pre-activations, which are done with.
    """
    most = max(1, _BYTES // (4 * numbers))
    wanted = np.nonzero(counts.numpy() >= _WORTH_KEEPING)[0][:most]
    places = np.full(counts.numel(), -1, np.int32)
    places[wanted] = np.arange(len(wanted), dtype=np.int32)
    return places, workspace.take("pre", (len(wanted), numbers)).numpy()


@njit(cache=True)
def is_kept(f, kept) -> bool:
    """Return whether a feature's gradient stays between the passes."""
    return kept[0].size > 0 and kept[0][f] >= 0


@njit(cache=True)
def row_of(f, kept, room):  # noqa: ANN201 (numba compiles it)
    """Return where a feature's gradient lies: in its row, or in ``room``."""
    return kept[1][kept[0][f]] if is_kept(f, kept) else room
