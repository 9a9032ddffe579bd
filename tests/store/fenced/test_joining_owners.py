"""Owners of recordings without locks die, sleep and wake in the middle of joining lanes."""

import contextlib
import threading
from collections.abc import Callable, Iterable

import pytest
from tests.store.fenced.joining_places import (
    PLACES,
    Hook,
    Objects,
    Place,
    Work,
    at_steps,
    content,
    holds,
    lay_out,
    live,
    names,
)

from isogloss.errors import Fenced, IsoglossError, StorageError
from isogloss.store.fenced.joins import JOINS, Join, JoinRecords
from isogloss.store.fenced.upkeep import FencedUpkeep
from isogloss.store.recordings.fenced_recording import FencedRecording
from isogloss.store.testing import PowerLoss


def dies(place: Place) -> Hook:
    def hook() -> None:
        place.left, place.hook = 1, hook  # and at every step after this one
        raise PowerLoss

    return hook


@pytest.mark.parametrize("kind", PLACES)
def test_an_owner_may_die_at_any_step(kind: type[Place]) -> None:
    assert at_steps(lambda left: die(kind(), left), 13) > 60


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLACES)
def test_an_owner_may_die_at_each_step(kind: type[Place]) -> None:
    assert at_steps(lambda left: die(kind(), left)) > 60


def die(place: Place, left: int) -> bool:
    """Let an owner die in the middle of joining, and another go on; return whether it died."""
    recording = lay_out(place)
    old = recording.revision()
    place.left, place.hook = left, dies(place)
    try:
        recording.compact()
    except PowerLoss:
        has_died = True
    else:
        has_died = False
    place.hook = None
    holds(place.attach(), 6)
    following = place.own(place.again())
    if left % 3:
        following.drop_litter()
    live(following)
    following.compact()
    for other in (following, place.attach()):
        holds(other, 8)
        holds(other, 6, old)
        assert len(names(other)) == 1
    following.drop_litter()
    assert following.drop_litter() == 0
    assert following.verify() == []
    return has_died


def gather(recording: FencedRecording) -> None:
    recording.drop_litter()


def compress(recording: FencedRecording) -> None:
    recording.compress()


def compact(recording: FencedRecording) -> None:
    recording.compact()


def join_two(recording: FencedRecording) -> None:
    recording.move_to_shards()
    rows = [lane.rows for lane in recording.lanes()]
    recording.compact(max_rows=sum(rows[:2]))


def quantise(recording: FencedRecording) -> None:
    recording.quantise()


def retire(recording: FencedRecording) -> None:
    recording.move_to_shards()
    assert recording.retire(0) > 0


TAKEOVERS = [gather, compress, compact, join_two, live, quantise, retire]


def overtake(place: Place, left: int, work: Work) -> bool:
    """Let an owner be overtaken in the middle of joining, sleep, and go on.

    Returns:
        Whether it was.
    """
    recording = lay_out(place)
    old = recording.revision()
    newer: list[FencedRecording] = []
    wanted: list[bytes] = []

    def hook() -> None:
        newer.append(place.own(place.again()))
        work(newer[0])
        wanted.extend(content(newer[0]))

    place.left, place.hook = left, hook
    try:
        recording.compact()
    except Fenced:
        assert newer
    place.hook = None
    if not newer:
        return False
    for other in (newer[0], place.attach(), place.own(place.again())):
        if content(other) != wanted:
            raise StorageError("what is read has changed")
        if work not in (quantise, retire):
            holds(other, 6 + 2 * (work is live))
            holds(other, 6, old)
        if other.verify():
            raise StorageError(f"{other.verify()}")
    return True


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("work", TAKEOVERS)
def test_an_owner_that_slept_changes_nothing_that_its_successor_did(
    kind: type[Place], work: Work
) -> None:
    assert at_steps(lambda left: overtake(kind(), left, work), 17) > 60


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("work", TAKEOVERS)
def test_an_owner_that_slept_at_each_step_changes_nothing_that_its_successor_did(
    kind: type[Place], work: Work
) -> None:
    assert at_steps(lambda left: overtake(kind(), left, work)) > 60


def wake(sleep_at: int, wake_at: int, work: Work) -> bool:
    """Let an owner sleep at its n-th look at the joins, and wake in the middle of another's work.

    Returns:
        Whether it slept, and woke before that work ended.
    """
    place = Objects()
    recording = lay_out(place)
    recording.move_to_shards()
    other = Objects(place.kept)
    sleeps, wakes, ended = threading.Event(), threading.Event(), threading.Event()
    place.only, place.left = JOINS, sleep_at

    def sleep() -> None:
        sleeps.set()
        assert wakes.wait(250)

    def join() -> None:
        with contextlib.suppress(IsoglossError, FileNotFoundError):
            recording.compact()
        ended.set()
        sleeps.set()

    place.hook = sleep
    sleeper = threading.Thread(target=join)
    sleeper.start()
    assert sleeps.wait(250)
    has_slept = not ended.is_set()
    newer = other.own(other.files)

    def go_on() -> None:
        wakes.set()
        assert ended.wait(250)

    other.left, other.hook = wake_at, go_on
    with contextlib.suppress(Fenced):  # of two that join at once one may be told to begin anew
        work(newer)
    has_woken = other.hook is None
    wakes.set()
    sleeper.join()
    for found in (newer, place.attach()):
        holds(found, 6)
    return has_slept and has_woken


def test_an_owner_that_wakes_beside_its_successor_does_no_harm() -> None:
    for sleep_at in (1, 3, 4):
        assert at_steps(lambda left, at=sleep_at: wake(at, left, gather), 5) > 5


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("work", [gather, compact, compress])
def test_an_owner_that_wakes_at_each_step_of_its_successor_does_no_harm(work: Work) -> None:
    sleep_at = 1
    while at_steps(lambda left, at=sleep_at: wake(at, left, work)) > 1:
        sleep_at += 1
    assert sleep_at > 4


def is_missed(interrupt: Callable[[int], bool], steps: Iterable[int]) -> bool:
    """Whether an owner that is interrupted at one of some steps does harm."""
    try:
        for left in steps:
            interrupt(left)
    except (IsoglossError, FileNotFoundError, AssertionError):
        return True
    return False


def steps_of_joining() -> int:
    """Return how many steps an owner takes that nobody interrupts."""
    place = Objects()
    recording = lay_out(place)
    place.left = 0
    recording.compact()
    return -place.left


def test_every_part_of_the_fence_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def joins_at_the_end(self: JoinRecords, join: Join) -> None:
        self.read()
        while True:
            try:
                return self._create(join)
            except FileExistsError:
                self.read()

    def marks_only(self: FencedUpkeep, *, is_open: bool = False) -> None:
        assert self._ownership is not None
        self._joins.mark(self._ownership.epoch, is_open=is_open)

    def fences_only_to_join(self: FencedUpkeep, *, is_open: bool = False) -> None:
        if is_open:
            assert self._ownership is not None
            self._joins.mark(self._ownership.epoch, is_open=True)
            self._ownership.check()

    def slept(left: int) -> bool:
        return overtake(Objects(), left, gather)

    def woke(left: int) -> bool:
        woken = [wake(sleep_at, left, gather) for sleep_at in (1, 2, 3)]
        return any(woken)

    whole = steps_of_joining()
    backwards = range(whole, 0, -3)  # it is its last steps that the fence keeps it from
    for holder, name, mutant, interrupt, steps in (
        (JoinRecords, "append", joins_at_the_end, slept, backwards),
        (FencedUpkeep, "fence", marks_only, woke, range(1, whole, 3)),
        (FencedUpkeep, "fence", fences_only_to_join, slept, backwards),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, mutant)
            assert is_missed(interrupt, steps), f"nothing shows that {mutant.__name__} is wrong"
