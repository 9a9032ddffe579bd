"""Numbers that a model's rows hold finite, and that become infinite in another dtype."""

from torch import Tensor


def overflows(rows: Tensor, stored: Tensor) -> int:
    """Return how many numbers are finite in a model's rows and infinite in the stored ones.

    Args:
        rows: as the model gave them.
        stored: the same rows in the dtype that they are stored in.
    """
    if rows.dtype == stored.dtype or rows.dtype.itemsize < stored.dtype.itemsize:
        return 0
    infinite = int(stored.isinf().sum())
    return infinite - int(rows.isinf().sum()) if infinite else 0
