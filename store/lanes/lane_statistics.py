"""The statistics of a lane's sites: measured once, kept beside the rows, read from then on."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import NotFound
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.formats.zarr_arrays import read_arrays, write_arrays
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.lanes.lane_directory import STATISTICS_NAME
from isogloss.store.lanes.norm_spread import NormSpread
from isogloss.store.lanes.statistics import BLOCK_ROWS, SiteStatistics, measure
from isogloss.store.schema.json_fields import get_count

_log = logging.getLogger(__name__)

_COLUMN_BLOCKS = 32
"""Blocks of rows whose token columns are read together."""
_SPREAD = (
    "squares",
    "class_means",
    "class_m2",
)
"""Arrays of float64 of a :class:`NormSpread`."""


def statistics_directory(lane: Path, site: int) -> Path:
    """Return where the statistics of a site are kept in a lane's directory."""
    return lane / f"{STATISTICS_NAME}-{site}"


def lane_statistics(
    files: FileSystem, lane: LaneFiles, site: int, *, keep: bool, write: bool
) -> SiteStatistics:
    """Return the moments of a site over the rows of a lane.

    Args:
        files: the file system that the lane is on.
        lane: the rows to cover.
        site: index of the site in the recording.
        keep: whether these are all rows of a sealed lane, whose moments may be kept beside it.
        write: whether to keep what is measured now, if ``keep`` and if there is room.

    Returns:
        The moments.
    """
    directory = statistics_directory(lane.directory, site)
    if keep:
        with contextlib.suppress(NotFound):
            return read_statistics(files, directory)
    found = _measured(lane, site)
    if keep and write:
        try:
            write_statistics(files, directory, found, lane.rows)
        except OSError as error:  # the lane was joined away meanwhile, or the disk is full
            _log.info("statistics of lane %s are not kept: %s", lane.directory.name, error)
    return found


def keep_statistics(files: FileSystem, lane: LaneFiles, site: int) -> None:
    """Keep the moments of a site over all rows of a sealed lane, unless they are kept already.

    Rows are rounded only afterwards: their exact moments could not be measured again.

    Args:
        files: the file system that the lane is on.
        lane: all rows of a sealed lane.
        site: index of the site in the recording.

    Raises:
        OSError: they could not be written.
    """
    directory = statistics_directory(lane.directory, site)
    try:
        read_statistics(files, directory)
    except NotFound:
        write_statistics(files, directory, _measured(lane, site), lane.rows)


def _measured(lane: LaneFiles, site: int) -> SiteStatistics:
    block_rows = 16 * BLOCK_ROWS
    width = lane.spec.sites[site].width
    return measure(lane.blocks(site, block_rows), width, _positions(lane, block_rows))


def _positions(lane: LaneFiles, block_rows: int) -> Iterator[NDArray[np.generic]]:
    """Yield the positions of the rows of a lane, in the blocks of its rows."""
    for start in range(0, lane.rows, _COLUMN_BLOCKS * block_rows):
        stop = min(start + _COLUMN_BLOCKS * block_rows, lane.rows)
        position = lane.columns(start, stop).position
        for at in range(0, len(position), block_rows):
            yield position[at : at + block_rows]


def read_statistics(files: FileSystem, directory: Path) -> SiteStatistics:
    """Return what :func:`write_statistics` wrote; NotFound when nothing was."""
    arrays, attributes = read_arrays(directory, files=files)
    return SiteStatistics(
        count=get_count(attributes, "count"),
        nonfinite=get_count(attributes, "nonfinite"),
        mean=np.asarray(arrays["mean"], np.float64),
        m2=np.asarray(arrays["m2"], np.float64),
        norm_mean=float(np.asarray(arrays["norms"], np.float64)[0]),
        norm_max=float(np.asarray(arrays["norms"], np.float64)[1]),
        norms=_read_spread(arrays),
    )


def _read_spread(arrays: Mapping[str, NDArray[np.generic]]) -> NormSpread | None:
    """Return the spread of the norms; None in a file from before it was measured."""
    if "spread_bins" not in arrays:
        return None
    # arrays are kept with the axis that grows in front
    found = {name: np.asarray(arrays[f"spread_{name}"], np.float64) for name in _SPREAD}
    return NormSpread(
        bins=np.asarray(arrays["spread_bins"], np.int32),
        counts=np.asarray(arrays["spread_counts"], np.int64).T,
        squares=found["squares"].T,
        class_means=found["class_means"],
        class_m2=found["class_m2"],
    )


def _spread_arrays(spread: NormSpread | None) -> dict[str, NDArray[np.generic]]:
    if spread is None:
        return {}
    arrays: dict[str, NDArray[np.generic]] = {
        f"spread_{name}": getattr(spread, name) for name in _SPREAD
    }
    arrays["spread_bins"] = spread.bins
    arrays["spread_counts"] = np.ascontiguousarray(spread.counts.T)
    arrays["spread_squares"] = np.ascontiguousarray(spread.squares.T)
    return arrays


def write_statistics(
    files: FileSystem, directory: Path, statistics: SiteStatistics, rows: int
) -> None:
    """Keep the statistics of ``rows`` rows of a site."""
    write_arrays(
        directory,
        {
            "mean": statistics.mean,
            "m2": statistics.m2,
            "norms": np.array([statistics.norm_mean, statistics.norm_max]),
            **_spread_arrays(statistics.norms),
        },
        {"count": statistics.count, "nonfinite": statistics.nonfinite, "rows": rows},
        files=files,
    )
