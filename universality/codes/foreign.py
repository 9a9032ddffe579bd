"""Codes that another tool computed over the segments of a probe, kept as our own are."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from isogloss.errors import NotFound, ShapeError
from isogloss.store import CheckedCodes, CodesFile, CodesWriter
from isogloss.universality.codes.probed import has_sums, write_sums
from isogloss.universality.probe.probe import Probe


def write_foreign_codes(
    parts: Iterable[CheckedCodes], probe: Probe, directory: Path, *, features: int
) -> CodesFile:
    """Write codes that another tool computed, unless they are there.

    They are written whole or not at all: after a crash, call again.

    Args:
        parts: the codes, cut anyhow, in the order of the segments (``isogloss.store.check_codes``).
        probe: the segments.
        directory: directory of the codes, which :func:`isogloss.universality.load_probed` reads.
        features: how many features the dictionary has.

    Returns:
        The codes, from the directory.

    Raises:
        ShapeError: the parts are of another number of features, or of segments in all.
    """
    present: list[np.ndarray] = []
    writer: CodesWriter | None = None
    if not _is_there(directory):
        writer = CodesWriter(directory, features)
    try:
        for part in parts:
            if part.features != features:
                raise ShapeError(f"a part is of {part.features} features, wanted {features}")
            present.append(part.present)
            if writer is not None:
                writer.append(part.codes.indptr, part.codes.indices, part.codes.values)
        segments = sum(len(one) for one in present)
        if segments != probe.segments:
            raise ShapeError(
                f"codes cover {segments} segments, probe {probe.id!r} has {probe.segments}: import "
                "all of them, and name those without an answer by present"
            )
        if writer is not None:
            writer.finish({"kind": "codes", "probe": probe.uid, "digest": probe.digest})
    finally:
        if writer is not None:
            writer.abandon()
    codes = CodesFile(directory)
    if not has_sums(directory):
        write_sums(directory, codes, np.concatenate(present).astype(np.bool_))
    return codes


def _is_there(directory: Path) -> bool:
    try:
        CodesFile(directory)
    except NotFound:
        return False
    return True
