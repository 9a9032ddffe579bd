from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    CorruptData,
    UnsupportedVersion,
)
from isogloss.store import Recording, SiteSpec, Store
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.lane_directory import LOG_NAME
from isogloss.store.testing import (
    sample_batch,
    sample_spec,
)
from isogloss.store.upkeep.verify import LaneVerifier

SPEC = sample_spec()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a", "b"], shard_bytes=3 << 10)
        for first in (1, 5):
            with recording.open_lane() as lane:
                for sequence in range(first, first + 4):
                    lane.append([sample_batch(SPEC, "p", sequence)])
            if first == 1:
                recording.derive()
        recording.open_lane().append([sample_batch(SPEC, "p", 9)])
        yield store


def files_of(recording: Recording) -> list[Path]:
    return sorted(
        path for path in recording.directory.rglob("*") if path.is_file() and path.stat().st_size
    )


def test_a_sound_store_has_no_problem(store: Store) -> None:
    assert store.verify() == []


def test_a_flipped_bit_in_any_file_is_found_and_named(store: Store) -> None:
    recording = store.recording("sample")
    recording.close()
    missed: list[Path] = []
    for path in files_of(recording):
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 3] ^= 0x08
        path.write_bytes(damaged)
        if not is_found(recording) and not is_padding(path, len(whole) // 3):
            missed.append(path)
        path.write_bytes(whole)
    assert missed == []
    assert store.verify() == []


def is_found(recording: Recording) -> bool:
    try:
        fresh = Recording(
            files=recording._files, directory=recording.directory, etag="", is_owner=False
        )
    except (CorruptData, UnsupportedVersion):
        return True
    return fresh.verify() != []


def is_padding(path: Path, at: int) -> bool:
    """Whether no row ever stood at this byte: the zeros that complete an inner chunk."""
    return path.parts[-3] == "c" and path.read_bytes()[at:].strip(b"\0") == b"\x08"


def test_a_missing_shard_is_found_and_named(store: Store) -> None:
    recording = store.recording("sample")
    (recording.directory / "lanes" / recording.lanes()[1].name / "site-0/c/0/0").unlink()
    messages = [problem.message for problem in store.verify()]
    assert any("'layer.1/out': shard 0 cannot be read" in message for message in messages)
    assert {problem.lane for problem in store.verify()} == {recording.lanes()[1].name}


WIDE = sample_spec(
    sites=(SiteSpec(name="a", width=64), SiteSpec(name="b", width=16, dtype="float32"))
)


def make_lanes(store: Store, lanes: int, commits: int, tier: str) -> Recording:
    recording = store.create_recording(WIDE, [f"token {i}" for i in range(300)])
    for lane in range(lanes):
        with recording.open_lane() as writer:
            for sequence in range(1 + lane * commits, 1 + (lane + 1) * commits):
                writer.append([sample_batch(WIDE, "p", sequence)])
    recording.derive()
    if tier == "compressed":
        recording.compress()
    elif tier == "quantised":
        recording.quantise()
    return recording


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # in a shard a byte of a row; in the log one of another commit than that row's
    at = len(content) * 4 // 5 if path.suffix == ".log" else min(len(content) // 5, 9000)
    content[at] ^= 0x20
    path.write_bytes(content)


def words_of(recording: Recording, path: Path) -> list[str]:
    """Return what a problem must mention when the file is damaged."""
    inner = path.relative_to(recording.directory).parts
    if inner[0] != "lanes":
        return [inner[0]]
    lane, part = inner[1], inner[2]
    if part.startswith("site-"):
        return [lane, repr(WIDE.sites[int(part[-1])].name), f"shard {inner[4]}"]
    names = {"commit.log": "the log", "seal.json": "seal of lane", "columns": "/".join(inner[2:4])}
    return [lane, names.get(part, part)]


@pytest.mark.parametrize("tier", ["raw", "compressed", "quantised"])
def test_each_of_many_damaged_files_is_named(tmp_path: Path, tier: str) -> None:
    with Store.open(tmp_path) as store:
        recording = make_lanes(store, 3, 40, tier)
        large = [path for path in files_of(recording) if path.stat().st_size > 2048]
        lanes = recording.lanes()
    damaged = [path for path in large if lanes[0].name in path.parts or "lanes" not in path.parts]
    damaged += [recording.directory / "lanes" / lanes[1].name / "seal.json"]
    damaged += [path for path in large if lanes[2].name in path.parts and path.suffix != ".log"]
    for path in damaged:
        damage(path)
    with Store.open(tmp_path) as store:
        problems = store.recording("sample").verify()
    told = [f"{problem.lane} {problem.message}" for problem in problems]
    missed = [
        path
        for path in damaged
        if not any(all(word in line for word in words_of(recording, path)) for line in told)
    ]
    assert missed == []
    assert len(problems) <= 2 * len(damaged)


class CountedFiles(FileSystem):
    """Counts how many files were opened."""

    opened = 0

    def open(self, path: Path, *, write: bool = False) -> int:
        self.opened += 1
        return super().open(path, write=write)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_commits_do_not_open_a_compressed_shard_again(tmp_path: Path, is_damaged: bool) -> None:
    with Store.open(tmp_path) as store:
        recording = make_lanes(store, 1, 100, "compressed")
        state = recording.lanes()[0]
        lane = recording.directory / "lanes" / state.name
        if is_damaged:
            for site in (0, 1):
                damage(lane / f"compressed-{site}/c/0/0")
        files = CountedFiles()
        verifier = LaneVerifier(files, lane, WIDE, state.seal, state.rows)
        problems = list(verifier.problems())
    assert len(problems) == (2 if is_damaged else 0)
    there = sum(1 for path in lane.rglob("*") if path.is_file())
    assert files.opened <= 3 * there < 200  # commits times sites


def test_a_frame_behind_a_broken_one_still_names_its_damaged_rows(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make_lanes(store, 1, 40, "raw")
        state = recording.lanes()[0]
        lane = recording.directory / "lanes" / state.name
        damage(lane / "commit.log")
        shard = lane / "site-1/c/0/0"
        content = bytearray(shard.read_bytes())
        content[4096 + (state.rows - 1) * WIDE.sites[1].row_bytes] ^= 1  # of the last commit
        shard.write_bytes(content)
        messages = [problem.message for problem in recording.verify()]
    assert any("is broken" in message for message in messages)
    assert any("'b': bytes" in message and "(frame 40)" in message for message in messages)


def test_a_count_without_files_is_not_walked(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make_lanes(store, 1, 4, "raw")
        state = recording.lanes()[0]
        lane = recording.directory / "lanes" / state.name
        verifier = LaneVerifier(FileSystem(), lane, WIDE, None, 10**15)
        messages = list(verifier.problems())
    assert any("shards 1 to" in message for message in messages)
    assert len(messages) < 10


def test_a_log_of_nothing_is_told_in_frames_and_bytes(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"])
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
        (log,) = recording.directory.glob(f"lanes/*/{LOG_NAME}")
        log.write_bytes(bytes(log.stat().st_size))
        said = [problem.message for problem in recording.verify()]
    assert any(text.startswith("the log has 0 sound frames in 0 bytes, ") for text in said), said


def test_one_row_that_the_log_does_not_prove_is_named(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"])
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
            before = lane.log_bytes
            lane.append([sample_batch(SPEC, "p", 2, rows=1)])
        (log,) = recording.directory.glob(f"lanes/*/{LOG_NAME}")
        whole = log.read_bytes()
        log.write_bytes(whole[:before].ljust(len(whole), b"\0"))
        said = [problem.message for problem in recording.verify()]
    rows = sample_batch(SPEC, "p", 1).rows
    assert f"the log proves {rows} rows, wanted {rows + 1}: frame 2 is broken" in said
