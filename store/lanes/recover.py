"""Seal a lane whose writer died, at the last commit that the disk really holds."""

import logging
from pathlib import Path

from isogloss.errors import CorruptData
from isogloss.store.disk.filesystem import FileSystem, sync_and_drop_cache
from isogloss.store.lanes.lane_directory import LOG_NAME
from isogloss.store.lanes.log_frames import find_frame_after
from isogloss.store.lanes.log_scan import LaneScan, scan_log
from isogloss.store.lanes.seal import Seal, read_seal, write_seal
from isogloss.store.schema.recording_spec import RecordingSpec
from isogloss.store.shards.byte_range import matches_checksum
from isogloss.store.shards.layout import array_metadata, shard_key, site_directory

_log = logging.getLogger(__name__)


def seal_dead_lane(
    files: FileSystem, directory: Path, spec: RecordingSpec, *, is_fenced: bool = False
) -> Seal | None:
    """Seal a lane whose writer is gone, at the last commit whose rows the disk holds.

    After a failed sync Linux may show bytes that no disk holds. So the log and the last shards are
    synced, dropped from the page cache and read again before they are believed.

    Args:
        files: the file system that the lane is on.
        directory: the lane's directory.
        spec: specification of its recording.
        is_fenced: whether the writer can no longer acknowledge anything; its lock is then ignored.

    Returns:
        The lane's seal, new or already there. None while the writer lives, or when a crash came
        before the lane was complete.

    Raises:
        CorruptData: the seal cannot be read, or a frame with a right checksum is no commit.
    """
    seal = read_seal(files, directory)
    if seal is not None:
        return seal
    try:
        log = files.open(directory / LOG_NAME, write=True)
    except FileNotFoundError:
        return None
    try:
        if not files.lock(log) and not is_fenced:
            return None
        sync_and_drop_cache(files, log)
        scan = scan_log(files, log, keep_tail=True)
        if is_fenced:  # its writer may have written between the sync and the scan
            files.sync_data(log)
        if scan is None:
            return None
        later = find_frame_after(
            files, log, start=scan.log_bytes, number=scan.frames, epoch=scan.header.epoch
        )
        damage = "" if later is None else f"frame {scan.frames} is broken, frame {later.number} not"
        bad = _first_bad_commit(files, directory, scan)
        if bad is not None:
            is_last = bad == len(scan.tail) - 1 and later is None
            damage = damage if is_last else f"data of frame {scan.frames - len(scan.tail) + bad}"
            scan = scan_log(files, log, stop=scan.tail[bad][1])
            if scan is None:
                raise CorruptData("the log lost its frame 0 while it was being read")
        return _write_recovered(files, directory, spec, scan, damage)
    except FileNotFoundError as error:
        raise CorruptData(f"lane {directory.name!r} lost a file: {error}; run verify") from error
    finally:
        files.close(log)


def _first_bad_commit(files: FileSystem, directory: Path, scan: LaneScan) -> int | None:
    """Return the index of the first commit of the tail whose rows do not match; None if all do."""
    synced: set[tuple[int, int]] = set()
    for index, (commit, _, _) in enumerate(scan.tail):
        for written in commit.ranges:
            is_new = (written.site, written.shard) not in synced
            if not matches_checksum(files, directory, written, reread=is_new):
                return index
            synced.add((written.site, written.shard))
    return None


def _write_recovered(
    files: FileSystem, directory: Path, spec: RecordingSpec, scan: LaneScan, damage: str
) -> Seal:
    """Cut shards, metadata and seal of a dead lane to the rows that were proven."""
    for index, (site, layout) in enumerate(zip(spec.sites, scan.header.layouts, strict=True)):
        metadata = array_metadata(site, layout, scan.rows)
        files.write_atomic(directory / site_directory(index) / "zarr.json", metadata)
        if scan.rows % layout.shard_rows:
            shard = scan.rows // layout.shard_rows
            length = layout.padded_bytes(scan.rows % layout.shard_rows)
            path = directory / site_directory(index) / shard_key(shard)
            _fit(files, path, length)
    seal = Seal(
        lane=scan.header.lane,
        epoch=scan.header.epoch,
        rows=scan.rows,
        frames=scan.frames,
        log_bytes=scan.log_bytes,
        cursors=scan.cursors,
        reason="recovered",
        damage=damage,
    )
    if damage:
        _log.error("lane %s of %s: cut to %d rows: %s", seal.lane, directory, seal.rows, damage)
    write_seal(files, directory, seal)
    return seal


def _fit(files: FileSystem, path: Path, length: int) -> None:
    """Extend a shard to whole inner chunks, or cut off what its writer had reserved."""
    descriptor = files.open(path, write=True)
    try:
        if files.size(descriptor) != length:
            files.truncate(descriptor, length)
            files.sync_data(descriptor)
    finally:
        files.close(descriptor)
