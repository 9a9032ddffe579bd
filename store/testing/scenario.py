"""A lane's life on a simulated disk, cut short anywhere, and what must be true afterwards."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from isogloss.errors import StorageError
from isogloss.store.recordings import Recording, create_recording_files
from isogloss.store.testing.disk import PowerLoss, SimulatedDisk
from isogloss.store.testing.samples import check_sample, sample_batch, sample_spec

ROOT = Path("/recording")
PRODUCERS = ("p", "q")
SPEC = sample_spec()


@dataclass(slots=True)
class Outcome:
    """How far a run came before it was cut short."""

    acknowledged: dict[str, int] = field(default_factory=dict[str, int])
    """Per producer the last batch that was acknowledged."""

    was_created: bool = False
    """Whether the recording itself was durable."""


def open_recording(disk: SimulatedDisk) -> Recording:
    """Open the recording of a disk as the store's owner does."""
    return Recording(files=disk, directory=ROOT, etag="", is_owner=True)


def run(
    disk: SimulatedDisk,
    *,
    lives: int = 2,
    groups: int = 4,
    shard_bytes: int = 3 << 10,
    derive: bool = True,
) -> Outcome:
    """Record in a few lives, each with groups of batches, until the power goes.

    A life that ends by a failed write is followed by the next, as a server would do it.
    """
    outcome = Outcome()
    try:
        create_recording_files(disk, ROOT, SPEC, ["a"], shard_bytes)
        outcome.was_created = True
    except (PowerLoss, StorageError):
        return outcome
    try:
        for _ in range(lives):
            live(disk, outcome, groups=groups, derive=derive)
    except PowerLoss:
        pass
    return outcome


def live(disk: SimulatedDisk, outcome: Outcome, *, groups: int, derive: bool) -> None:
    """One life of a writer: go on where all lanes end, commit groups, close, derive."""
    recording = open_recording(disk)
    try:
        lane = recording.open_lane()
        for _ in range(groups):
            batches = [
                sample_batch(SPEC, producer, lane.cursors.get(producer, 0) + 1 + ahead)
                for producer in PRODUCERS
                for ahead in range(2)
            ]
            outcome.acknowledged.update(lane.append(batches).cursors)
        lane.close()
        if derive:
            recording.derive()
    except StorageError:
        return


def check(disk: SimulatedDisk, outcome: Outcome) -> dict[str, int]:
    """Open what is left and check that every acknowledged batch is there, once and unchanged.

    Raises:
        CorruptData: it is not.
    """
    if not outcome.was_created:
        return {}
    recording = open_recording(disk)
    found = check_sample(recording.reader(), outcome.acknowledged)
    for lane in recording.lanes():
        if lane.seal is not None and lane.seal.damage:
            raise StorageError(f"lane {lane.name} reports damage: {lane.seal.damage}")
    return found


def go_on(disk: SimulatedDisk, outcome: Outcome, *, derive: bool = True) -> None:
    """Record another life after a crash, and check again."""
    if outcome.was_created:
        live(disk, outcome, groups=2, derive=derive)
        check(disk, outcome)


def count_operations(make: Callable[[], SimulatedDisk] = SimulatedDisk) -> tuple[int, int]:
    """Return how many operations and how many syncs of files a run makes that nothing cuts."""
    disk = make()
    run(disk)
    return disk.operations, disk.syncs
