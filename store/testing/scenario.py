"""Record on a simulated disk, cut short at any operation, and check what is left."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from isogloss.errors import CorruptData, StorageError
from isogloss.store.recordings.recording import Recording
from isogloss.store.recordings.recording_files import create_recording_files
from isogloss.store.schema.batch import RowBatch
from isogloss.store.schema.revision import Revision
from isogloss.store.testing.disk import PowerLoss, SimulatedDisk, Survival
from isogloss.store.testing.samples import check_sample, sample_batch, sample_spec

ROOT = Path("/recording")
PRODUCERS = ("p", "q")
SPEC = sample_spec()


@dataclass(slots=True)
class Outcome:
    """The batches that a run had acknowledged when it was cut short."""

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


def stepped_batch(producer: str, sequence: int) -> RowBatch:
    """Return the batch of a producer; the second one trains, and begins at step 0."""
    step = 0 if producer == PRODUCERS[0] else 5 * (sequence // 4)
    return sample_batch(SPEC, producer, sequence, step=step)


def live(disk: SimulatedDisk, outcome: Outcome, *, groups: int, derive: bool) -> None:
    """One life of a writer: go on where all lanes end, commit groups, close, derive."""
    recording = open_recording(disk)
    try:
        lane = recording.open_lane()
        for _ in range(groups):
            batches = [
                stepped_batch(producer, lane.cursors.get(producer, 0) + 1 + ahead)
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
    """Open a disk and check that each acknowledged batch is there, once and unchanged.

    Args:
        disk: the disk after the power loss.
        outcome: the batches that were acknowledged before.

    Returns:
        For each producer the number of the last batch found.

    Raises:
        CorruptData: a row is missing, repeated or changed.
        StorageError: a lane says that acknowledged rows were lost.
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


UpkeepWork = Callable[[Recording], object]
"""What is done to the lanes of a recording while nobody writes to it."""


@cache
def _recorded(derive: bool) -> tuple[SimulatedDisk, Outcome]:
    """Return a disk with a recording of three lanes; copy it before it is changed."""
    disk = SimulatedDisk()
    return disk, run(disk, lives=3, groups=1, derive=derive)


def _cut_short(
    upkeep: UpkeepWork, after: int, *, derive: bool
) -> tuple[SimulatedDisk, Outcome, Revision, bool]:
    """Do upkeep on a recording until ``after`` operations were done, or to its end.

    Args:
        upkeep: the upkeep to do.
        after: how many operations to let it do.
        derive: whether columns and statistics were derived before.

    Returns:
        The disk, what was acknowledged, the revision before, and whether the upkeep ended.
    """
    whole, outcome = _recorded(derive)
    disk = whole.after_power_loss("kept")
    revision = open_recording(disk).revision()
    disk.stop_at = disk.operations + after
    try:
        upkeep(open_recording(disk))
    except PowerLoss:
        return disk, outcome, revision, False
    return disk, outcome, revision, True


def tend(
    upkeep: UpkeepWork, after: int, survival: Survival, seed: int, *, derive: bool = True
) -> bool:
    """Let the power go ``after`` operations into the upkeep of a recording, and check what is left.

    Each acknowledged row must be there, once, in what is committed then and under the revision
    taken before; upkeep done again must end, leave no litter behind, and outlive another loss.

    Args:
        upkeep: the upkeep to do.
        after: how many operations to let it do before the power goes.
        survival: what happens to writes and names that were not synced.
        seed: seed of the random choice.
        derive: whether columns and statistics were derived before.

    Returns:
        Whether the power went before the upkeep ended.

    Raises:
        CorruptData: rows were lost, repeated or changed.
    """
    disk, outcome, revision, ended = _cut_short(upkeep, after, derive=derive)
    left = disk.after_power_loss(survival, seed)
    check_revision(left, outcome, revision)
    upkeep(open_recording(left))
    check_revision(left, outcome, revision)
    check_revision(left.after_power_loss("dropped"), outcome, revision)
    open_recording(left).drop_litter()
    problems = open_recording(left).verify()
    if problems:
        raise CorruptData(problems[0].message)
    return not ended


def tend_after_kill(upkeep: UpkeepWork, after: int, seed: int) -> bool:
    """Kill the upkeep of a recording, do it again in another process, and lose power then.

    What the first process renamed and did not sync, the second sees: it must not build on that
    before it is durable.

    Args:
        upkeep: the upkeep to do.
        after: how many operations to let it do before it is killed.
        seed: seed of the random choice.

    Returns:
        Whether the first upkeep was killed before it ended.

    Raises:
        CorruptData: rows were lost, repeated or changed.
    """
    disk, outcome, revision, ended = _cut_short(upkeep, after, derive=False)
    again = disk.after_kill()
    upkeep(open_recording(again))
    open_recording(again).drop_litter()
    for number in range(4):
        left = again.after_power_loss("mixed", seed + number)
        check_revision(left, outcome, revision)
    return not ended


def check_revision(disk: SimulatedDisk, outcome: Outcome, revision: Revision) -> None:
    """Check as :func:`check` does, and the rows of a revision taken before too."""
    check(disk, outcome)
    check_sample(open_recording(disk).reader(revision), outcome.acknowledged)


def count_operations(make: Callable[[], SimulatedDisk] = SimulatedDisk) -> tuple[int, int]:
    """Return how many operations and how many syncs of files a run makes that nothing cuts."""
    disk = make()
    run(disk)
    return disk.operations, disk.syncs
