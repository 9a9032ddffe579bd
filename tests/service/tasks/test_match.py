"""The report that a match job leaves beside its pairs."""

import json
from pathlib import Path

import pytest

from isogloss.service.query.queries import REPORT_FILE
from isogloss.service.tasks.match import write_report
from isogloss.store import FileSystem


class Watched(FileSystem):
    """Writes down the directories that were synced, and what they held then."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[tuple[Path, list[str]]] = []

    def sync_directory(self, path: Path) -> None:
        self.synced.append((path, self.names(path)))
        super().sync_directory(path)


def test_a_report_is_whole_and_its_name_durable(tmp_path: Path) -> None:
    files = Watched()
    write_report(tmp_path, {"match": "ä", "pairs": [1, 2]}, files)
    assert files.synced == [(tmp_path, [REPORT_FILE])]
    assert json.loads((tmp_path / REPORT_FILE).read_text()) == {"match": "ä", "pairs": [1, 2]}
    write_report(tmp_path, {"match": "b"}, files)
    assert json.loads((tmp_path / REPORT_FILE).read_text()) == {"match": "b"}


def test_a_report_with_numbers_that_json_lacks_is_refused_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_report(tmp_path, {"r": float("nan")})
    assert list(tmp_path.iterdir()) == []
