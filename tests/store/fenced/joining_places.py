"""Recordings without locks whose owners die, sleep and wake at any step of what they do."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from obstore.store import MemoryStore

from isogloss.errors import StorageError
from isogloss.store import FileSystem, Revision
from isogloss.store.disk.object_files import ObjectFiles
from isogloss.store.ownership.epochs import EpochOwnership
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.testing import SimulatedDisk, check_sample, sample_batch, sample_spec

SPEC = sample_spec()
ROOT = Path("/store")
T = TypeVar("T")
Hook = Callable[[], None]
Work = Callable[[FencedRecording], None]


class Place(ABC):
    """Where a recording lies that owners take from one another."""

    files: FileSystem

    def __init__(self) -> None:
        self.only = ""
        self.left = 0
        self.hook: Hook | None = None

    @abstractmethod
    def again(self) -> FileSystem:
        """Return the files as another process sees them."""

    def step(self, what: Path | str) -> None:
        """Count an operation of the owner that is watched; interrupt it when it is its turn."""
        self.left -= self.only in str(what)
        if self.left == 0 and self.hook is not None:
            hook, self.hook = self.hook, None
            hook()

    def own(self, files: FileSystem) -> FencedRecording:
        """Take the store over; return its recording."""
        ownership = EpochOwnership(files, ROOT, force=True, lease_s=math.inf)
        return FencedRecording(files=files, directory=ROOT / "r", etag="", ownership=ownership)

    def attach(self) -> FencedRecording:
        """Return the recording for somebody who only reads."""
        files = self.again()
        return FencedRecording(files=files, directory=ROOT / "r", etag="", ownership=None)


class Disk(Place):
    def __init__(self, disk: SimulatedDisk | None = None) -> None:
        super().__init__()
        self.disk = self.files = disk or SimulatedDisk()
        if disk is None:
            self.disk.make_directory(ROOT)
            self.disk.sync_directory(ROOT.parent)
            self.disk.ignore = self._look

    def _look(self, operation: str, path: Path) -> bool:
        if operation != "drop_cache":
            self.step(path)
        return False

    def again(self) -> FileSystem:
        return self.disk


class Objects(Place):
    def __init__(self, kept: MemoryStore | None = None) -> None:
        super().__init__()
        self.kept = kept or MemoryStore()
        self.files = Watched(self.kept)
        self.files.place = self

    def again(self) -> FileSystem:
        return ObjectFiles(self.kept)


class Watched(ObjectFiles):
    """Objects whose requests are the steps of a place."""

    place: Place | None = None

    def _call(self, what: Path | str, request: Callable[[], T]) -> T:
        if self.place is not None:
            self.place.step(what)
        return super()._call(what, request)


PLACES = [Disk, Objects]


def live(recording: FencedRecording, lives: int = 1) -> None:
    """Append two batches in a lane of their own; so many times."""
    for _ in range(lives):
        with recording.open_lane() as lane:
            first = lane.cursors.get("p", 0) + 1
            lane.append([sample_batch(SPEC, "p", number) for number in (first, first + 1)])


def lay_out(place: Place, lives: int = 3) -> FencedRecording:
    create_recording_files(place.files, ROOT / "r", SPEC, ["a"], 3 << 10)
    recording = place.own(place.files)
    live(recording, lives)
    return recording


def holds(recording: FencedRecording, batches: int, revision: Revision | None = None) -> None:
    """Refuse a recording that does not hold the first so many batches, each once."""
    wanted = {"p": batches}
    found = check_sample(recording.reader(revision), wanted)
    if found != wanted:
        raise StorageError(f"the recording holds {found}, wanted {wanted}")


def content(recording: FencedRecording) -> list[bytes]:
    """Return all that a reader is given."""
    reader = recording.reader()
    tokens = reader.tokens()
    arrays = [reader.read(site.name, 0, reader.rows) for site in SPEC.sites]
    arrays += [tokens.token_id, tokens.document, tokens.position]
    return [repr(recording.cursor("p")).encode(), *(array.tobytes() for array in arrays)]


def names(recording: FencedRecording) -> list[str]:
    return [lane.name for lane in recording.lanes()]


def at_steps(interrupt: Callable[[int], bool], stride: int = 1) -> int:
    """Interrupt at each ``stride``-th step as long as there is one; return where that ended."""
    left = 1
    while interrupt(left):
        left += stride
    return left
