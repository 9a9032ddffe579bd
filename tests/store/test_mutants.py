"""Every precaution of the commit path, of reading and of verifying, taken away in turn, is missed.

The syncs one by one, the lock, reading past the page cache and ending after a failed sync have
their turn in ``test_power_loss.py``.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import isogloss.store.disk.signed_json
import isogloss.store.formats.zarr_arrays
import isogloss.store.lanes.log_frames
import isogloss.store.shards.compressed
import isogloss.store.upkeep.compressed_rows
import isogloss.store.upkeep.verify
from isogloss.errors import IsoglossError
from isogloss.store import Recording, RowBatch, SiteSpec
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.lanes.lane_directory import LOG_NAME
from isogloss.store.lanes.log_frames import Frame, read_frames
from isogloss.store.lanes.writer import LaneWriter
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.shards.writer import ShardWriter
from isogloss.store.testing import PowerLoss, SimulatedDisk, check_sample, sample_batch, sample_spec
from isogloss.store.testing.scenario import ROOT, SPEC, Outcome, check, open_recording, run

Monkey = pytest.MonkeyPatch


def missed(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except (IsoglossError, AssertionError, ValueError):
        return True
    return False


def blind(buffer: object, previous: int = 0) -> int:
    return 0


def lose_power_after_each_group(groups: int = 6) -> None:
    """Append groups that fill shards; after each the power goes and unsynced bytes are dropped."""
    disk = SimulatedDisk()
    create_recording_files(disk, ROOT, SPEC, ["a"], 3 << 10)
    outcome = Outcome(was_created=True)
    lane = open_recording(disk).open_lane()
    for group in range(groups):
        batches = [sample_batch(SPEC, "p", 4 * group + ahead) for ahead in range(1, 5)]
        outcome.acknowledged.update(lane.append(batches).cursors)
        check(disk.after_power_loss("dropped"), outcome)


def test_shards_that_a_group_filled_must_be_synced_too(monkeypatch: Monkey) -> None:
    lose_power_after_each_group()

    def forgetful(self: ShardWriter) -> list[int]:
        return [shard.descriptor for shard in self._open.values()]

    monkeypatch.setattr(ShardWriter, "descriptors", property(forgetful))
    assert missed(lose_power_after_each_group)


def test_starting_a_write_is_no_substitute_for_its_sync(monkeypatch: Monkey) -> None:
    def hopeful(self: ShardWriter) -> list[int]:
        for shard in [*self._filled, *self._open.values()]:
            self._files.start_sync(shard.descriptor, 0, shard.length)
        return []

    monkeypatch.setattr(ShardWriter, "descriptors", property(hopeful))
    assert missed(lose_power_after_each_group)


def test_the_acknowledgement_must_wait_for_the_log(monkeypatch: Monkey) -> None:
    def hasty(self: LaneWriter, pieces: Sequence[bytes | np.ndarray]) -> None:
        assert self._log is not None
        self._files.write(self._log, pieces, self._log_bytes)
        self._sync(self._sites.descriptors)
        self._log_bytes += sum(len(piece) for piece in pieces)
        self._frames += 1

    monkeypatch.setattr(LaneWriter, "_append_frame", hasty)
    assert missed(lose_power_after_each_group)


def repeat_and_skip() -> None:
    """Send a batch twice, in one group and in two; the second must not be written."""
    disk = SimulatedDisk()
    create_recording_files(disk, ROOT, SPEC, ["a"], 3 << 10)
    recording = open_recording(disk)
    lane = recording.open_lane()
    first = sample_batch(SPEC, "p", 1)
    lane.append([first, first])
    lane.append([first, sample_batch(SPEC, "p", 2)])
    check_sample(recording.reader(), {"p": 2})


def test_sequence_numbers_must_be_compared_with_what_is_committed(monkeypatch: Monkey) -> None:
    repeat_and_skip()

    def gullible(
        self: LaneWriter, batches: Sequence[RowBatch]
    ) -> tuple[list[RowBatch], dict[str, int], list[object]]:
        documents = {document.id: document for batch in batches for document in batch.documents}
        cursors = {batch.producer: batch.sequence for batch in batches}
        return list(batches), cursors, list(documents.values())

    monkeypatch.setattr(LaneWriter, "_admit", gullible)
    assert missed(repeat_and_skip)


def mix_lives() -> None:
    """Behind the end of a log stand frames of another life, as a reused disk may show them."""
    disk = SimulatedDisk()
    outcome = run(disk, lives=2, groups=1, derive=False)
    names = disk.names(ROOT / "lanes")
    logs = [disk.open(ROOT / "lanes" / name / LOG_NAME, write=True) for name in names]
    first, second = (list(read_frames(disk, log)) for log in logs)
    content = np.empty(second[1].end - second[1].offset, np.uint8)
    disk.read_into(logs[1], content, second[1].offset)
    disk.remove(ROOT / "lanes" / names[0] / "seal.json")
    disk.write(logs[0], [content], first[-1].end)
    number = len(first)
    wanted = [frame.number for frame in read_frames(disk, logs[0])]
    assert wanted == list(range(number)), f"{wanted} beyond {number}"
    for log in logs:
        disk.close(log)
    check(disk.after_kill(), outcome)


def test_frames_of_another_life_must_not_be_taken_for_ours(monkeypatch: Monkey) -> None:
    mix_lives()
    original = isogloss.store.lanes.log_frames.read_frame
    seen: list[Frame] = []

    def trusting(files: FileSystem, descriptor: int, offset: int, stop: int) -> Frame | None:
        frame = original(files, descriptor, offset, stop)
        if offset == 0:
            seen.clear()
        if frame is None:
            return None
        seen.append(frame)
        return dataclasses.replace(frame, epoch=seen[0].epoch, number=len(seen) - 1)

    monkeypatch.setattr(isogloss.store.lanes.log_frames, "read_frame", trusting)
    assert missed(mix_lives)


WIDE = sample_spec(sites=(SiteSpec(name="s", width=48),))


def decayed(
    directory: Path, pattern: str, prepare: Callable[[Recording], object], start: float
) -> None:
    """Flip a bit in a file; whoever reads must be told, or get what was written."""
    files = FileSystem()
    create_recording_files(files, directory, WIDE, ["a"], 32 << 10)
    recording = Recording(files=files, directory=directory, etag="", is_owner=True)
    with recording.open_lane() as lane:
        lane.append([sample_batch(WIDE, "p", 1, 300)])
    prepare(recording)
    before = recording.reader()
    wanted = (before.read("s", 0, before.rows).tobytes(), before.tokens().token_id.tobytes())
    (path,) = directory.glob(pattern)
    content = bytearray(path.read_bytes())
    for at in range(int(start * len(content)), len(content), max(1, len(content) // 37)):
        flipped = bytearray(content)
        flipped[at] ^= 0x10
        path.write_bytes(flipped)
        try:
            fresh = Recording(files=files, directory=directory, etag="", is_owner=False)
            if fresh.verify():
                continue
            after = fresh.reader()
            found = (after.read("s", 0, after.rows).tobytes(), after.tokens().token_id.tobytes())
        except IsoglossError:
            continue
        assert found == wanted, f"byte {at} of {path.name} changed and nothing says so"


def leave(recording: Recording) -> None:
    """Do nothing more with a recording."""


def yes(*_: object) -> bool:
    return True


def given(document: Mapping[str, object]) -> object:
    return document.get("crc32c")


def no_frames(*_: object, **__: object) -> Iterator[Frame]:
    return iter(())


CHECKS: dict[str, tuple[object, str, Callable[[Recording], object], float]] = {
    "frames": (isogloss.store.lanes.log_frames, "lanes/*/commit.log", leave, 0.1),
    "compressed chunks": (
        isogloss.store.shards.compressed,
        "lanes/*/compressed-0/c/0/0",
        Recording.compress,
        0.2,
    ),
    "columns": (
        isogloss.store.formats.zarr_arrays,
        "lanes/*/columns/token_id/c.0",
        Recording.derive,
        0.0,
    ),
    "seals": (isogloss.store.disk.signed_json, "lanes/*/seal.json", leave, 0.0),
}


def take_rows_as_sound(monkeypatch: Monkey) -> None:
    """Let verify compare no rows with the checksums of their commits, raw or compressed."""
    monkeypatch.setattr(isogloss.store.upkeep.verify, "matches_checksum", yes)
    monkeypatch.setattr(isogloss.store.upkeep.compressed_rows.CompressedRows, "problems", none)


def none(*_: object) -> Iterator[str]:
    return iter(())


@pytest.mark.parametrize("name", list(CHECKS))
def test_every_checksum_is_needed(tmp_path: Path, monkeypatch: Monkey, name: str) -> None:
    module, pattern, prepare, start = CHECKS[name]
    decayed(tmp_path / "checked", pattern, prepare, start)
    if name == "seals":
        monkeypatch.setattr(module, "checksum", given)
        monkeypatch.setattr(isogloss.store.upkeep.verify, "read_frames", no_frames)
    else:
        monkeypatch.setattr(module, "crc32c", blind)
    take_rows_as_sound(monkeypatch)
    assert missed(lambda: decayed(tmp_path / "blind", pattern, prepare, start))


def test_the_checksums_of_rows_are_needed(tmp_path: Path, monkeypatch: Monkey) -> None:
    rows = "lanes/*/site-0/c/0/0"
    decayed(tmp_path / "checked", rows, leave, 0.3)
    take_rows_as_sound(monkeypatch)
    assert missed(lambda: decayed(tmp_path / "blind", rows, leave, 0.3))


def test_power_that_is_gone_stays_gone() -> None:
    """The simulated disk itself: after the power went, no operation goes through."""
    disk = SimulatedDisk(stop_at=5)
    run(disk)
    with pytest.raises(PowerLoss):
        disk.make_directory(Path("/after"))
