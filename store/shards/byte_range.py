"""The bytes that one commit wrote to one shard, and whether the disk still holds them."""

from dataclasses import dataclass
from pathlib import Path

from isogloss.store.disk.checksums import file_crc32c
from isogloss.store.disk.filesystem import FileSystem, sync_and_drop_cache
from isogloss.store.shards.layout import shard_key, site_directory


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteRange:
    """Bytes that one commit wrote to one shard of one site."""

    site: int
    """Index of the site in the recording."""

    shard: int
    """Number of the shard."""

    offset: int
    """First byte in the shard's file."""

    length: int
    """Number of bytes."""

    checksum: int
    """Their CRC-32C."""


def matches_checksum(
    files: FileSystem, directory: Path, written: ByteRange, *, reread: bool = False
) -> bool:
    """Return whether bytes that a commit wrote are there and match their checksum.

    Args:
        files: the file system that the lane is on.
        directory: the lane's directory.
        written: where the bytes are, and their checksum.
        reread: whether to sync the shard first, and to read it from the disk, not from the page
            cache.

    Returns:
        False where the shard is missing, too short, or holds other bytes.
    """
    path = directory / site_directory(written.site) / shard_key(written.shard)
    try:
        descriptor = files.open(path)
    except FileNotFoundError:
        return False
    try:
        if reread:
            sync_and_drop_cache(files, descriptor)
        if files.size(descriptor) < written.offset + written.length:
            return False
        found = file_crc32c(files, descriptor, written.offset, written.length)
        return found == written.checksum
    finally:
        files.close(descriptor)
