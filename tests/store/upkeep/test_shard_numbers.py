from pathlib import Path

import pytest

from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.upkeep.shard_numbers import missing_shards, shard_numbers


def test_only_the_names_of_shards_are_numbers(tmp_path: Path) -> None:
    for name in ("10", "2", "x", ".3", "0"):
        (tmp_path / "c" / name).mkdir(parents=True)
    assert shard_numbers(FileSystem(), tmp_path) == [0, 2, 10]


@pytest.mark.parametrize(
    ("there", "wanted", "runs"),
    [
        ([], 0, []),
        ([], 10**18, [(0, 10**18 - 1)]),
        ([0, 1, 2], 3, []),
        ([1, 4, 9], 7, [(0, 0), (2, 3), (5, 6)]),
    ],
)
def test_runs_of_missing_shards_are_found_without_counting(
    there: list[int], wanted: int, runs: list[tuple[int, int]]
) -> None:
    assert list(missing_shards(there, wanted)) == runs
