"""Shards are written in space reserved ahead."""

import errno
from pathlib import Path

import numpy as np

from isogloss.store import FileSystem, Recording, SiteSpec, Store
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.shards.layout import ShardLayout
from isogloss.store.shards.writer import ShardWriter
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


def test_space_is_never_reserved_beyond_a_full_shard_but_up_to_it(tmp_path: Path) -> None:
    layout = ShardLayout(row_bytes=24, chunk_rows=8, shard_chunks=8)
    full = layout.padded_bytes(layout.shard_rows)
    writer = ShardWriter(FileSystem(), tmp_path, [layout], lambda _: None)
    (tmp_path / "site-0" / "c").mkdir(parents=True)
    shards = tmp_path / "site-0" / "c"
    sizes: list[list[int]] = []
    for first in range(0, 3 * layout.shard_rows, 16):
        writer.write(first, [[np.full(16 * layout.row_bytes, first % 251, np.uint8)]])
        names = sorted(path.name for path in shards.iterdir())
        sizes.append([(shards / name / "0").stat().st_size for name in names])
    writer.trim(3 * layout.shard_rows)
    writer.close()
    assert max(size for row in sizes for size in row) == full
    assert sizes[-1] == [full] * 3
    # a shard is extended to about twice what it holds, and at its second write to the whole of it
    assert sizes[0] == [layout.padded_bytes(layout.shard_rows)]


def test_an_open_lane_of_many_sites_holds_about_the_bytes_of_its_rows(tmp_path: Path) -> None:
    sites = tuple(SiteSpec(name=f"s{i}", width=2048, dtype="float32") for i in range(16))
    spec = sample_spec("many", sites=sites)
    with Store.open(tmp_path) as store:
        lane = store.create_recording(spec, ["a"]).open_lane()
        lane.append([sample_batch(spec, "p", 1, 8)])
        row_bytes = lane.rows * spec.row_bytes
        shards = [*tmp_path.glob("recordings/*/lanes/*/site-*/c/*/*")]
        held = sum(512 * shard.stat().st_blocks for shard in shards)
        assert len(shards) == 16
        assert held <= 2 * row_bytes + 16 * (3 << 12)
        assert sum(shard.stat().st_size for shard in shards) > 2 * held  # whole chunks, as holes


def test_what_is_trimmed_is_what_the_last_shard_holds(tmp_path: Path) -> None:
    layout = ShardLayout(row_bytes=24, chunk_rows=8, shard_chunks=8)
    writer = ShardWriter(FileSystem(), tmp_path, [layout], lambda _: None)
    (tmp_path / "site-0" / "c").mkdir(parents=True)
    rows = layout.shard_rows + 16
    for first in range(0, rows, 16):
        writer.write(first, [[np.full(16 * layout.row_bytes, 1, np.uint8)]])
    last = tmp_path / "site-0" / "c" / "1" / "0"
    assert last.stat().st_size > layout.padded_bytes(16)
    writer.trim(rows)
    writer.close()
    assert last.stat().st_size == layout.padded_bytes(16)
    assert (last.parent.parent / "0" / "0").stat().st_size == layout.padded_bytes(layout.shard_rows)
