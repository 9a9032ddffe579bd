"""The statistics of a lane's sites: measured once, kept beside the rows, read from then on."""

import contextlib
from pathlib import Path

import numpy as np

from isogloss.errors import NotFound
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.formats.zarr_arrays import read_arrays, write_arrays
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.lanes.lane_directory import STATISTICS_NAME
from isogloss.store.lanes.statistics import BLOCK_ROWS, SiteStatistics, measure
from isogloss.store.schema.json_fields import get_count


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
        write: whether to keep what is measured now, if ``keep``.

    Returns:
        The moments.
    """
    directory = statistics_directory(lane.directory, site)
    if keep:
        with contextlib.suppress(NotFound):
            return read_statistics(files, directory)
    found = measure(lane.blocks(site, 16 * BLOCK_ROWS), lane.spec.sites[site].width)
    if keep and write:
        write_statistics(files, directory, found, lane.rows)
    return found


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
    )


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
        },
        {"count": statistics.count, "nonfinite": statistics.nonfinite, "rows": rows},
        files=files,
    )
