"""Lanes are joined where no lock can be trusted, by records created one after the other."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.store.fenced.joining_places import (
    PLACES,
    ROOT,
    Disk,
    Objects,
    Place,
    at_steps,
    holds,
    lay_out,
    live,
    names,
)

from isogloss.errors import CorruptData, Fenced, IsoglossError, NotFound, StorageError, StoreOwned
from isogloss.store import Compaction
from isogloss.store.disk.filesystem import UncertainRecord
from isogloss.store.disk.object_files import ObjectFiles
from isogloss.store.fenced.joins import JOINS, Join, JoinRecords
from isogloss.store.lanes.files import LaneFiles
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import PowerLoss, SimulatedDisk, check_sample
from isogloss.store.testing.disk import Ignore, Survival, removed


@pytest.mark.parametrize("kind", PLACES)
def test_lanes_are_joined_and_nobody_who_reads_notices(kind: type[Place]) -> None:
    place = kind()
    recording = lay_out(place)
    elsewhere = place.attach()
    old, untouched, begun = recording.revision(), elsewhere.reader(), elsewhere.reader()
    begun.read("layer.2", 0, 5)
    before = names(recording)
    assert recording.compact() == Compaction(lanes=3, into=1, rows=old.rows)
    (name,) = names(recording)
    assert name not in before
    assert [p for p in place.files.names(ROOT / "r/lanes") if p[0] != "."] == [name]
    for reader in (untouched, begun):
        assert check_sample(reader, {"p": 6}) == {"p": 6}
    for other in (recording, elsewhere, place.attach()):
        holds(other, 6)
        holds(other, 6, old)
        assert names(other) == [name]
    assert recording.compact() == Compaction(lanes=0, into=0, rows=0)
    assert recording.drop_litter() == 0
    assert recording.verify() == place.attach().verify() == []
    assert recording.cursor("p") == 6


@pytest.mark.parametrize("kind", PLACES)
def test_a_reader_that_followed_to_what_a_crash_left_goes_on(kind: type[Place]) -> None:
    place = kind()
    recording = lay_out(place)
    reader, slept = recording.reader(), place.own(place.files)

    def crash(*_: object, **__: object) -> None:
        raise PowerLoss

    slept._fenced_lanes.joins.append = crash  # type: ignore[method-assign]
    with pytest.raises(PowerLoss):
        slept.compact()
    (left,) = set(place.files.names(ROOT / "r/lanes")) - set(names(place.attach()))
    following = place.own(place.again())
    following.compact()
    assert left not in names(following)
    assert check_sample(reader, {"p": 6}) == {"p": 6}
    for lane in reader._lanes:
        lane._successor = LaneFiles(place.again(), ROOT / "r/lanes" / left, lane.spec, lane.rows)
    assert following.drop_litter() > 0
    assert check_sample(reader, {"p": 6}) == {"p": 6}


@pytest.mark.parametrize("kind", PLACES)
def test_joined_lanes_are_joined_again_compressed_and_retired(kind: type[Place]) -> None:
    place = kind()
    recording = lay_out(place)
    first = recording.revision()
    rows = recording.lanes()[0].rows
    assert recording.compact(max_rows=2 * rows + 20).into >= 1
    assert recording.compress() > 0
    live(recording)
    second = recording.revision()
    assert recording.compact().into == 1
    holds(recording, 8)
    holds(recording, 6, first)
    (lane,) = recording.lanes()
    assert recording.reader()._lanes[0].is_compressed(0)
    live(recording)
    recording = place.own(place.again())
    holds(recording, 10)
    recording.derive()
    assert recording.retire(recording.lanes()[-1].rows) == lane.rows
    for revision in (first, second):
        with pytest.raises(NotFound, match="take a new one"):
            recording.reader(revision)
    assert recording.cursor("p") == 10
    live(recording)
    assert recording.cursor("p") == place.attach().cursor("p") == 12
    assert recording.verify() == []


class Doubtful(ObjectFiles):
    """An object store that loses the answer to the creation of one join, for good."""

    armed = False
    takes_it = False

    def create_record(self, path: Path, content: bytes, *, look: bool = True) -> None:
        if self.armed and JOINS in path.parts and b'"lane":""' not in content:
            if self.takes_it:
                super().create_record(path, content, look=look)
            raise UncertainRecord(5, "no answer")
        super().create_record(path, content, look=look)


@pytest.mark.parametrize("takes_it", [True, False])
def test_a_join_that_may_still_arrive_loses_nothing(takes_it: bool) -> None:
    place = Objects()
    files = place.files = Doubtful(place.kept)
    recording = lay_out(place)
    files.armed, files.takes_it = True, takes_it
    with pytest.raises(StorageError, match="no answer"):
        recording.compact()
    files.armed = False
    holds(recording, 6)
    assert len(names(recording)) == (1 if takes_it else 3)
    recording.drop_litter()
    holds(recording, 6)
    recording.compact()
    assert len(names(recording)) == 1
    holds(place.attach(), 6)
    assert recording.verify() == []


def test_only_an_owner_joins_and_an_older_one_is_told(tmp_path: Path) -> None:
    place = Objects()
    recording = lay_out(place)
    with pytest.raises(StoreOwned, match="attached"):
        place.attach().compact()
    newer = place.own(place.again())
    newer.compact()
    with pytest.raises(Fenced, match="taken over"):
        recording.compact()
    records = JoinRecords(place.files, ROOT / "r")
    with pytest.raises(Fenced, match="epoch 2, and this one is of epoch 1"):
        records.mark(1, is_open=True)
    with pytest.raises(Fenced, match="does not count"):
        records.append(Join(owner=1, lane="00000001.0123456789abcdef", joined=("a",)))


def test_marks_are_set_only_where_somebody_may_be_joining() -> None:
    place = Objects()
    recording = lay_out(place)
    for _ in range(3):
        recording = place.own(place.again())
        recording.compress()
        recording.drop_litter()
    assert place.files.names(ROOT / "r" / JOINS) == []
    recording.compact()
    assert len(place.files.names(ROOT / "r" / JOINS)) == 2
    for _ in range(3):
        recording = place.own(place.again())
        recording.compact()
        recording.drop_litter()
    assert len(place.files.names(ROOT / "r" / JOINS)) == 2


def cut(content: bytes) -> bytes:
    return content[:-1]


def flip(content: bytes) -> bytes:
    return content[:50] + bytes([content[50] ^ 1]) + content[51:]


@pytest.mark.parametrize(("change", "message"), [(cut, "is no frame"), (flip, "checksum")])
def test_damaged_joins_are_named(change: Callable[[bytes], bytes], message: str) -> None:
    place = Objects()
    recording = lay_out(place)
    recording.compact()
    path = ROOT / "r" / JOINS / f"{2:016d}"
    place.files.write_atomic(path, change(place.files.read_whole(path)))
    with pytest.raises(CorruptData, match=message):
        place.attach().lanes()
    (problem,) = place.attach().verify()
    assert "join 2" in problem.message


def test_a_join_of_lanes_with_path_parts_is_refused() -> None:
    place = Objects()
    lay_out(place)
    records = JoinRecords(place.files, ROOT / "r")
    records.mark(1, is_open=True)
    records.append(Join(owner=1, lane="../../other", joined=("00000001.0123456789abcdef",)))
    with pytest.raises(CorruptData, match="eight digits"):
        place.attach().lanes()


def test_a_lane_that_was_removed_by_something_else_is_missed() -> None:
    place = Objects()
    recording = lay_out(place)
    recording.derive()
    victim = names(recording)[1]
    place.files.remove_tree(ROOT / "r/lanes" / victim)
    with pytest.raises(CorruptData, match=f"lane '{victim}' is missing"):
        place.attach().reader()
    assert [problem.message for problem in place.attach().verify()] != []


def owned(disk: SimulatedDisk) -> FencedRecording:
    """Take over the recording of a disk."""
    return Disk(disk).own(disk)


def tend(
    after: int, survival: Survival, seed: int, ignore: Ignore = None, *, compressed: bool = False
) -> bool:
    """Lose power so many operations into compaction; return whether it went before the end."""
    place = Disk()
    recording = lay_out(place)
    if compressed:
        recording.compress()
    old, disk = recording.revision(), place.disk
    disk.ignore, disk.stop_at = ignore, disk.operations + after
    try:
        recording.compact()
    except PowerLoss:
        went = True
    else:
        went = False
    left = disk.after_power_loss(survival, seed)
    left.ignore = ignore
    for _ in range(2):
        following = owned(left)
        holds(following, 6)
        holds(following, 6, old)
        following.compact()
        following.drop_litter()
        if following.verify():
            raise StorageError(f"{following.verify()}")
        left = left.after_power_loss("dropped")
    return went


def tend_after_kill(after: int, seed: int) -> bool:
    """Kill compaction, let another owner end it, and lose power; return whether it was killed."""
    place = Disk()
    old, disk = lay_out(place).revision(), place.disk
    disk.ignore, disk.stop_at = None, disk.operations + after
    try:
        owned(disk).compact()
    except PowerLoss:
        went = True
    else:
        went = False
    again = disk.after_kill()
    owned(again).compact()
    owned(again).drop_litter()
    for number in range(3):
        left = owned(again.after_power_loss("mixed", seed + number))
        holds(left, 6)
        holds(left, 6, old)
    return went


SURVIVALS: tuple[Survival, ...] = ("dropped", "kept", "mixed", "mixed", "mixed")


@pytest.mark.parametrize("compressed", [False, True])
def test_power_may_go_at_any_moment(compressed: bool) -> None:
    def lose(after: int) -> bool:
        return tend(after, SURVIVALS[after % 5], after, compressed=compressed)

    assert at_steps(lose, 23) > 100


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("compressed", [False, True])
def test_power_may_go_at_each_moment(compressed: bool) -> None:
    def lose(after: int) -> bool:
        seeds = enumerate(SURVIVALS, 7 * after)
        went = [tend(after, how, seed, compressed=compressed) for seed, how in seeds]
        return any(went)

    assert at_steps(lose) > 100


def test_what_was_killed_is_not_built_on_before_it_is_durable() -> None:
    assert at_steps(lambda after: tend_after_kill(after, after), 11) > 100


@pytest.mark.parametrize(
    "ignore",
    [
        removed("sync_data", lambda path: JOINS in path.parts),
        removed("sync_directory", lambda path: path.name == JOINS),
        removed("sync_directory", lambda path: path.name == "lanes"),
        removed("sync_directory", lambda path: path.parts[-2:-1] == ("lanes",)),
        removed("sync_data", lambda path: "seal.json" in path.name),
        removed("sync_data", lambda path: path.parts[-3:-2] == ("c",)),
    ],
    ids=["record", "records", "lanes", "lane", "seal", "rows"],
)
def test_every_sync_is_needed(ignore: Ignore) -> None:
    after, went = 150, True
    while went:
        for seed in range(after, after + 4):
            try:
                went = tend(after, "mixed", seed, ignore)
            except (IsoglossError, FileNotFoundError):
                tend(after, "mixed", seed)
                return
        after += 3
    pytest.fail("no state shows that the sync is missing")
