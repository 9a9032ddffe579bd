"""Mean, norm and variance of the rows that a run trains on."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.rows.batches import as_tensor, spread
from isogloss.errors import InvalidInput, NonFiniteRows
from isogloss.store import RecordingReader

_SAMPLE_ROWS = 1 << 17
_CHUNK_ROWS = 1 << 13


def measure_rows(
    reader: RecordingReader, sites: Sequence[str], keep: NDArray[np.bool_], writes: range
) -> Normalisation:
    """Measure mean, norm and variance of at most 131,072 evenly spaced training rows.

    Sums are numpy's, in float64 and one thread: the bits do not depend on the thread count.

    Args:
        reader: pinned rows.
        sites: sites to read; their columns lie side by side.
        keep: rows that are trained on, ``[rows]``.
        writes: columns that are reconstructed, whose variance is measured.

    Raises:
        InvalidInput: the rows do not vary.
        NonFiniteRows: a row holds NaN or infinity.
    """
    rows = spread(np.flatnonzero(keep).astype(np.int64), _SAMPLE_ROWS)
    total, squares = np.zeros(0), np.zeros(0)
    for start in range(0, len(rows), _CHUNK_ROWS):
        chunk = rows[start : start + _CHUNK_ROWS]
        values = np.concatenate(
            [as_tensor(reader.take(site, chunk)).to(torch.float64).numpy() for site in sites],
            axis=1,
        )
        if start == 0:
            total, squares = np.zeros(values.shape[1]), np.zeros(values.shape[1])
        total += values.sum(axis=0)
        squares += np.square(values).sum(axis=0)
    mean, power = total / len(rows), squares / len(rows)
    named = ", ".join(sites)
    if not np.isfinite(power).all():
        raise NonFiniteRows(
            f"site {named} has rows with NaN or infinity; wanted finite activations: record "
            "in a wider dtype (bfloat16 or float32) or without those documents"
        )
    written = slice(writes.start, writes.stop)
    variance = float((power - np.square(mean))[written].sum())
    if variance <= 1e-12 * float(power[written].sum()):
        raise InvalidInput(
            f"the {len(rows)} training rows of site {named} do not vary; there is nothing to "
            "learn: check what the hook of this site records"
        )
    scale = (len(power) / float(power.sum())) ** 0.5
    return Normalisation(
        scale=scale, variance=variance * scale * scale, mean=torch.from_numpy(mean * scale)
    )
