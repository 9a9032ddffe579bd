"""Which shards of a site are on the disk: listed, as a count in a file may be wrong."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from isogloss.store.disk.filesystem import FileSystem


def shard_numbers(files: FileSystem, directory: Path) -> list[int]:
    """Return the numbers of the shards that a site's directory holds, ascending."""
    names = files.names(directory / "c")
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def missing_shards(there: Sequence[int], wanted: int) -> Iterator[tuple[int, int]]:
    """Find the shards that are not there, in time that grows with those that are.

    Args:
        there: numbers of the shards on the disk, ascending.
        wanted: how many there should be, numbered from 0.

    Yields:
        The first and the last number of each run of missing ones.
    """
    following = 0
    for number in there:
        if number >= wanted:
            break
        if number > following:
            yield following, number - 1
        following = number + 1
    if following < wanted:
        yield following, wanted - 1
