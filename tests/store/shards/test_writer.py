"""Shards are written in space reserved ahead."""

import errno
from pathlib import Path

from isogloss.store import Recording
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.testing import FaultyFiles, check_sample, sample_batch, sample_spec

SPEC = sample_spec()


def test_space_is_reserved_ahead_and_given_back_when_the_lane_ends(tmp_path: Path) -> None:
    create_recording_files(FaultyFiles(), tmp_path / "r", SPEC, ["a"], 96 << 10)
    recording = Recording(files=FaultyFiles(), directory=tmp_path / "r", etag="", is_owner=True)
    with recording.open_lane() as lane:
        for sequence in range(1, 30):
            lane.append([sample_batch(SPEC, "p", sequence, 40)])
        directory = recording.directory / "lanes" / lane.name
        log, shard = directory / "commit.log", directory / "site-1/c/0/0"
        used = 4096 + lane.rows * 24
        ahead, behind = log.read_bytes(), shard.read_bytes()
        assert len(ahead) == 256 << 10
        assert not any(ahead[lane.log_bytes :])
        assert len(behind) > used + (8 << 10)
        assert not any(behind[used:])
    assert log.stat().st_size == lane.log_bytes
    assert used <= shard.stat().st_size < used + 1024
    assert recording.verify() == []


def test_a_disk_too_full_to_reserve_ahead_still_takes_what_fits(tmp_path: Path) -> None:
    files = FaultyFiles(
        operations=frozenset({"allocate"}), error=errno.ENOSPC, fail_at=1, lasting=True
    )
    create_recording_files(files, tmp_path / "r", SPEC, ["a"], 3 << 10)
    recording = Recording(files=files, directory=tmp_path / "r", etag="", is_owner=True)
    with recording.open_lane() as lane:
        for sequence in range(1, 9):
            lane.append([sample_batch(SPEC, "p", sequence)])
        log = recording.directory / "lanes" / lane.name / "commit.log"
        assert log.stat().st_size == lane.log_bytes
    assert files.calls["allocate"] >= 8
    assert check_sample(recording.reader(), {"p": 8}) == {"p": 8}
