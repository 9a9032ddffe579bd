"""Text that stands in several sources: there, sources do not tell of one another's chance."""

import numpy as np
from numpy.typing import NDArray

from isogloss.universality.probe.hashing import splitmix64

RUN = 16
"""Segments in a row that count as the same text."""

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def repeated_share(
    token: NDArray[np.integer],
    document: NDArray[np.integer],
    source: NDArray[np.integer],
    *,
    run: int = RUN,
) -> float:
    """Return the share of segments in a run that stands in another source as well.

    Args:
        token: token of each segment, in the order of the text, ``[segments]``.
        document: document of each, ascending, ``[segments]``.
        source: source of each, ``[segments]``.
        run: segments of one document, one after the other, whose tokens must be equal.

    Returns:
        The share, 0 where no document has as many segments.
    """
    count = len(token) - run + 1
    if count < 1:
        return 0.0
    mixed = splitmix64(token.astype(np.int64).view(np.uint64))
    hashed = np.zeros(count, np.uint64)
    for at in range(run):
        hashed = hashed * _FACTOR + mixed[at : at + count]
    begins = np.flatnonzero(document[:count] == document[run - 1 :])
    if not len(begins):
        return 0.0
    order = begins[np.argsort(hashed[begins], kind="stable")]
    same = hashed[order]
    first = np.flatnonzero(np.concatenate([[True], same[1:] != same[:-1]]))
    of = source[order].astype(np.int64)
    several = np.minimum.reduceat(of, first) != np.maximum.reduceat(of, first)
    lengths = np.diff(np.concatenate([first, [len(order)]]))
    repeated = order[np.repeat(several, lengths)]
    steps = np.zeros(len(token) + 1, np.int64)
    np.add.at(steps, repeated, 1)
    np.add.at(steps, repeated + run, -1)
    return float((np.cumsum(steps[:-1]) > 0).mean())
