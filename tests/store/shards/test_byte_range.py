"""Bytes that a commit wrote are compared with their checksum."""

from pathlib import Path

import pytest

from isogloss.store.disk.checksums import crc32c
from isogloss.store.shards.byte_range import ByteRange, matches_checksum
from isogloss.store.shards.layout import shard_key, site_directory
from isogloss.store.testing import SimulatedDisk

WRITTEN = ByteRange(site=1, shard=0, offset=2, length=4, checksum=crc32c(b"rows"))


def disk_with(content: bytes) -> tuple[SimulatedDisk, int]:
    disk = SimulatedDisk()
    path = Path("/") / site_directory(1) / shard_key(0)
    for directory in reversed(path.parents[:-1]):
        disk.make_directory(directory)
    descriptor = disk.create(path)
    disk.write(descriptor, [content], 0)
    return disk, descriptor


@pytest.mark.parametrize(
    ("content", "matches"),
    [(b"..rows..", True), (b"..rows", True), (b"..row", False), (b"..Rows", False), (b"", False)],
)
def test_only_the_very_bytes_match(content: bytes, matches: bool) -> None:
    disk, _ = disk_with(content)
    assert matches_checksum(disk, Path("/"), WRITTEN) is matches


def test_a_missing_shard_does_not_match() -> None:
    assert not matches_checksum(SimulatedDisk(), Path("/"), WRITTEN)


def test_rereading_finds_bytes_that_only_the_page_cache_holds() -> None:
    disk, descriptor = disk_with(b"..ro..")
    disk.sync_data(descriptor)
    disk.write(descriptor, [b"ws"], 4)
    disk.fail_sync_at = disk.syncs + 1
    with pytest.raises(OSError, match="Input/output"):
        disk.sync_data(descriptor)
    assert matches_checksum(disk, Path("/"), WRITTEN)
    assert not matches_checksum(disk, Path("/"), WRITTEN, reread=True)
