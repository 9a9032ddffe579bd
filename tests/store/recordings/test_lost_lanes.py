"""Writers that are killed, and lanes that vanish after it: what is missing is named, exactly that.

On a disk with locks, without locks, on a real object store, and in direct lanes.
"""

import random
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.object_server import object_server

from isogloss.errors import Conflict, CorruptData
from isogloss.store import Recording, Store
from isogloss.store.ownership.location import Fencing
from isogloss.store.testing import check_sample, sample_batch, sample_spec
from isogloss.store.testing.writer import PRODUCERS

SPEC = sample_spec()
PARTS = ("lanes", "commits", "groups")


@pytest.fixture(scope="module")
def bucket() -> Generator[str]:
    with object_server() as address:
        yield address


class Killed:
    """A store at an address, and writers of it that are killed one after the other."""

    def __init__(self, address: str, fencing: Fencing, chance: random.Random) -> None:
        self.address, self.chance = address, chance
        self.fencing: Fencing = fencing
        self.acknowledged: dict[str, int] = dict.fromkeys(PRODUCERS, 0)

    def open(self) -> Store:
        return Store.open(self.address, fencing=self.fencing, force=self.fencing == "create")

    def command(self) -> list[str]:
        module = "isogloss.store.testing."
        if self.fencing == "lock":
            return [sys.executable, "-m", f"{module}writer", self.address]
        producer = self.chance.choice(PRODUCERS)
        found = [sys.executable, "-m", f"{module}fenced_writer", self.address, producer]
        return [*found, "--take-over"]

    def write_and_kill(self) -> None:
        writer = subprocess.Popen(self.command(), stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer.stdout as said:
            self.note(said.readline())
            time.sleep(self.chance.random() * 0.1)
            writer.kill()
            for line in said.read().splitlines(keepends=True):
                self.note(line)
        writer.wait()

    def note(self, line: str) -> None:
        if line.endswith("\n") and " " in line:
            producer, sequence = line.split()
            self.acknowledged[producer] = int(sequence)


def places_of(recording: Recording, lane: str) -> list[Path]:
    """Return what a partial restore leaves out: all of a lane but its entry in the manifest."""
    number = lane.partition(".")[0]
    births = [recording.directory / "births" / name for name in (number, f"{number}.settled")]
    return [*(recording.directory / part / lane for part in PARTS), *births]


def take_out(recording: Recording, lane: str) -> dict[Path, bytes]:
    """Remove a lane; return its files."""
    files, taken = recording.files, dict[Path, bytes]()

    def keep(path: Path) -> None:
        names = files.names(path) if files.is_remote or files.is_directory(path) else []
        for name in names:
            keep(path / name)
        if not names and files.exists(path) and not files.is_directory(path):
            taken[path] = files.read_whole(path)

    for place in places_of(recording, lane):
        keep(place)
        files.remove_tree(place)
    return taken


def put_back(recording: Recording, taken: dict[Path, bytes]) -> None:
    for path, content in taken.items():
        if not recording.files.is_remote:
            path.parent.mkdir(parents=True, exist_ok=True)
        recording.files.write_whole(path, [content])


def lose_one(killed: Killed) -> str:
    """Take a lane away between two owners, see it named, and put it back; return its name."""
    with killed.open() as store:
        recording = store.recording("sample")
        states = {state.name: state for state in recording.lanes()}
        name = killed.chance.choice(sorted(n for n, state in states.items() if state.rows))
    with Store.attach(killed.address) as attached:
        recording = attached.recording("sample")
        taken = take_out(recording, name)
        assert taken
    with killed.open() as store:
        recording = store.recording("sample")
        (missing,) = recording.missing_lanes()
        assert (missing.name, missing.rows) == (name, states[name].rows)
        assert dict(missing.cursors) == dict(states[name].cursors)
        assert [problem.lane for problem in recording.verify()] == [name]
        for ask in (recording.reader, recording.open_lane, lambda: recording.cursor("rank-0")):
            with pytest.raises(CorruptData, match=f"lane '{name}' is missing"):
                ask()
        put_back(recording, taken)
    with killed.open() as store:
        recording = store.recording("sample")
        assert recording.verify() == []
        check_sample(recording.reader(), killed.acknowledged)
        assert all(recording.cursor(p) >= n for p, n in killed.acknowledged.items())
    return name


def kill_and_lose(address: str, fencing: Fencing, kills: int, seed: int) -> None:
    killed = Killed(address, fencing, random.Random(seed))
    for kill in range(kills):
        killed.write_and_kill()
        if kill % 3 == 2:
            lose_one(killed)
    assert sum(killed.acknowledged.values()) > 0


@pytest.mark.parametrize("fencing", ["lock", "create"])
def test_after_kills_a_lane_that_vanished_is_named_and_the_rest_is_there(
    tmp_path: Path, fencing: Fencing
) -> None:
    kill_and_lose(str(tmp_path / "store"), fencing, 3, seed=3)


def test_after_kills_a_lane_that_vanished_from_an_object_store_is_named(bucket: str) -> None:
    kill_and_lose(f"{bucket}/kills", "create", 3, seed=5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("place", ["lock", "create", "objects"])
def test_after_a_hundred_kills_what_is_missing_is_named(
    tmp_path: Path, bucket: str, place: str
) -> None:
    for part in range(8):
        where = f"{bucket}/long-{part}" if place == "objects" else str(tmp_path / f"{part}")
        kill_and_lose(where, "lock" if place == "lock" else "create", 12, seed=part)


def test_a_direct_lane_whose_writer_was_killed_is_named_when_it_vanished(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store.open(root) as store:
        recording = store.create_recording(SPEC, ["a", "b"])
        ticket = recording.offer_direct_lane(["rank-0"])
        writer = subprocess.Popen(
            [sys.executable, "-m", "isogloss.store.testing.direct_writer", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert writer.stdin is not None
        assert writer.stdout is not None
        content = ticket.to_bytes()
        writer.stdin.write(b"%d\n%b" % (len(content), content))
        writer.stdin.flush()
        said = b""
        for _ in range(5):
            said = writer.stdout.readline()
        writer.kill()
        said = (writer.stdout.readlines() or [said])[-1]
        writer.wait()
        writer.stdin.close()
        writer.stdout.close()
        acknowledged = {"rank-0": int(said.split()[1])}
        (lane,) = recording.lanes()
        assert lane.is_direct
        check_sample(recording.reader(), acknowledged)
    with Store.open(root) as store:
        recording = store.recording("sample")
        taken = take_out(recording, lane.name)
    with Store.open(root) as store:
        recording = store.recording("sample")
        (missing,) = recording.missing_lanes()
        assert (missing.name, dict(missing.cursors)) == (lane.name, dict(lane.cursors))
        with pytest.raises(CorruptData, match="is missing"):
            recording.offer_direct_lane(["rank-0"])
        put_back(recording, taken)
    with Store.open(root) as store:
        check_sample(store.recording("sample").reader(), acknowledged)


@pytest.mark.parametrize("place", ["lock", "create", "objects"])
def test_where_nothing_told_how_far_producers_were_they_go_on_under_new_names_only(
    tmp_path: Path, bucket: str, place: str
) -> None:
    where = f"{bucket}/unknown" if place == "objects" else str(tmp_path / "store")
    killed = Killed(where, "lock" if place == "lock" else "create", random.Random(1))
    with killed.open() as store:
        recording = store.create_recording(SPEC, ["a", "b"])
        for batches in (range(1, 3), range(3, 6)):
            with recording.open_lane() as lane:
                for number in batches:
                    lane.append([sample_batch(SPEC, "p", number)])
        last = lane.name
    with killed.open() as store:
        recording = store.recording("sample")
        entry = recording.directory / "manifest" / last
        assert recording.files.exists(entry)
        take_out(recording, last)
        recording.files.write_whole(entry, [b"torn"])
    with killed.open() as store:
        recording = store.recording("sample")
        (lost,) = recording.give_up()
        assert (lost.name, lost.rows, dict(lost.cursors)) == (last, None, {})
        number = last.partition(".")[0]
        for name in ("p", "never seen"):
            with pytest.raises(Conflict, match=f"under a new name that ends in @{number}"):
                recording.cursor(name)
            if place == "lock":
                with pytest.raises(Conflict, match="is not known"):
                    recording.offer_direct_lane([name])
        fresh = f"p@{number}"
        assert recording.cursor(fresh) == 0
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, fresh, 1)])
        assert recording.cursor(fresh) == 1
        recording.compact()
    with killed.open() as store:
        recording = store.recording("sample")
        with pytest.raises(Conflict, match="'p' may have been one"):
            recording.cursor("p")
        assert check_sample(recording.reader(), {"p": 2, fresh: 1}) == {"p": 2, fresh: 1}
