"""Which lanes there are, and whether a process writes one."""

from pathlib import Path

from isogloss.store import FileSystem
from isogloss.store.lanes.lane_directory import LOG_NAME, has_writer, lane_names


def test_half_written_names_are_no_lanes(tmp_path: Path) -> None:
    for name in ("00000002.b", "00000001.a", ".00000003.c.partial"):
        (tmp_path / name).mkdir()
    assert lane_names(FileSystem(), tmp_path) == ["00000001.a", "00000002.b"]
    assert lane_names(FileSystem(), tmp_path / "missing") == []


def test_a_lane_has_a_writer_while_its_log_is_locked(tmp_path: Path) -> None:
    files = FileSystem()
    assert not has_writer(files, tmp_path)
    log = files.create(tmp_path / LOG_NAME)
    assert not has_writer(files, tmp_path)
    assert files.lock(log)
    assert has_writer(files, tmp_path)
    files.close(log)
    assert not has_writer(files, tmp_path)
