"""Move the rows of a sealed lane to another tier: compressed (exact) or quantised (rounded)."""

from pathlib import Path

import numpy as np

from isogloss.errors import CorruptData
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.files import LaneFiles, read_commits
from isogloss.store.shards.byte_range import matches_checksum
from isogloss.store.shards.layout import compressed_directory, site_directory
from isogloss.store.shards.quantised import write_quantised

_BLOCK_BYTES = 4 << 20


def compress_site(lane: LaneFiles, files: FileSystem, directory: Path, site: int) -> bool:
    """Compress the rows of one site of a sealed lane, then remove the raw ones.

    A crash leaves the raw rows, or the compressed rows and some of the raw ones, which the next
    call removes.

    Args:
        lane: the lane.
        files: the file system that the lane is on.
        directory: the lane's directory.
        site: index of the site.

    Returns:
        Whether anything had to be compressed or removed.
    """
    # the values of this room are imported by clients that have no zstandard
    from isogloss.store.shards.compressor import SiteCompressor

    raw = directory / site_directory(site)
    if lane.is_quantised(site):
        return False
    if not lane.is_compressed(site):
        layout = lane.header.layouts[site]
        compressor = SiteCompressor(files, directory, site, lane.spec.sites[site], layout)
        for shard in range(-(-lane.rows // layout.shard_rows)):
            rows = min(layout.shard_rows, lane.rows - shard * layout.shard_rows)
            content = np.empty((rows, layout.row_bytes), np.uint8)
            lane.read_into(site, shard * layout.shard_rows, content)
            compressor.write(shard, content)
        compressor.finish(lane.rows)
    elif not files.exists(raw):
        return False
    else:
        files.sync_directory(directory)  # a killed process may not have synced the rename
    files.remove_tree(raw)
    return True


def quantise_site(lane: LaneFiles, files: FileSystem, site: int) -> bool:
    """Round the rows of one site of a sealed lane to 8 bits, then remove the exact ones.

    A crash leaves the exact rows, or the rounded rows and some of the exact ones, which the next
    call removes.

    Args:
        lane: the lane.
        files: the file system it is on.
        site: index of the site.

    Returns:
        Whether the rows were exact before.
    """
    is_new = not lane.is_quantised(site)
    if is_new:
        spec = lane.spec.sites[site]
        block_rows = max(1, _BLOCK_BYTES // spec.row_bytes)
        write_quantised(files, lane.directory, site, spec, lane.blocks(site, block_rows))
    else:
        files.sync_directory(lane.directory)  # see compress_site
    for name in (site_directory(site), compressed_directory(site)):
        files.remove_tree(lane.directory / name)
    return is_new


def check_ranges(files: FileSystem, directory: Path, rows: int, site: int) -> None:
    """Check a site's raw rows against their commits; CorruptData where one differs."""
    for commit in read_commits(files, directory, rows):
        for written in commit.ranges:
            if written.site == site and not matches_checksum(files, directory, written):
                raise CorruptData(
                    f"bytes [{written.offset}, {written.offset + written.length}) of shard "
                    f"{written.shard} of site {site} in lane {directory.name!r} do not match "
                    "their checksum: run verify"
                )
