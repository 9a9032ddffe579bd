from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    CorruptData,
    UnsupportedVersion,
)
from isogloss.store import Recording, Store
from isogloss.store.testing import (
    sample_batch,
    sample_spec,
)

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
