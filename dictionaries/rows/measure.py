"""Mean and variance of the rows that a run trains on, and the scale that follows from them."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.rows.batches import as_tensor, spread
from isogloss.dictionaries.rows.usual import FAR, SAMPLE_ROWS, UsualRows
from isogloss.errors import InvalidInput, NonFiniteRows
from isogloss.store import RecordingReader

_LOG = logging.getLogger(__name__)
_SAMPLE_ROWS = 1 << 17
_CHUNK_ROWS = 1 << 13


def measure_rows(
    reader: RecordingReader, sites: Sequence[str], keep: NDArray[np.bool_], writes: range
) -> Normalisation:
    """Measure mean and variance of at most 131,072 evenly spaced training rows.

    The scale makes the mean squared distance of a row from the mean equal to the width, so a
    constant offset of a column does not change it. Rows that are far from all others (``FAR`` times
    the median distance, see :class:`UsualRows`) are not measured, and a warning says so: one of
    them would set the scale for all the others.

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
    usual = UsualRows.of(_values(reader, sites, spread(rows, SAMPLE_ROWS)))
    count, total, squares = 0, np.zeros(len(usual.centre)), np.zeros(len(usual.centre))
    largest = np.zeros(len(usual.centre))
    for values in _chunks(reader, sites, rows):
        largest = np.maximum(largest, np.abs(values).max(axis=0))
        centred = values[usual.mask(values)] - usual.centre
        count += len(centred)
        total += centred.sum(axis=0)
        squares += np.square(centred).sum(axis=0)
    named = ", ".join(sites)
    if count < len(rows):
        _LOG.warning(
            "%d of %d rows of site %s lie more than %g times as far from the centre as the median "
            "row does: mean, variance and scale are those of the other rows",
            *(len(rows) - count, len(rows), named, FAR),
        )
    offset = total / count
    variances = squares / count - np.square(offset)
    variance = float(variances[writes.start : writes.stop].sum())
    noise = np.finfo(np.float32).eps * largest  # what float32 makes of a column that is constant
    if variance <= float(np.square(noise)[writes.start : writes.stop].sum()):
        raise InvalidInput(
            f"the {len(rows)} training rows of site {named} do not vary; there is nothing to "
            "learn: check what the hook of this site records"
        )
    scale = (len(variances) / float(variances.sum())) ** 0.5
    mean = torch.from_numpy((usual.centre + offset) * scale)
    return Normalisation(scale=scale, variance=variance * scale * scale, mean=mean)


def _chunks(
    reader: RecordingReader, sites: Sequence[str], rows: NDArray[np.int64]
) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(rows), _CHUNK_ROWS):
        yield _values(reader, sites, rows[start : start + _CHUNK_ROWS])


def _values(
    reader: RecordingReader, sites: Sequence[str], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return rows of all sites side by side; NonFiniteRows where one is not finite."""
    parts = [as_tensor(reader.take(site, rows)).to(torch.float64).numpy() for site in sites]
    values = np.concatenate(parts, axis=1)
    if not np.isfinite(values).all():
        raise NonFiniteRows(
            f"site {', '.join(sites)} has rows with NaN or infinity; wanted finite activations: "
            "record in a wider dtype (bfloat16 or float32) or without those documents"
        )
    return values
