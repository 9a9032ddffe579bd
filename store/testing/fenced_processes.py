"""Writers of stores without locks in processes of their own: killed, stopped, set on each other.

Each scenario takes the address of a store that is not there yet, in a directory or on an object
store, and raises when a promise is broken.
"""

import signal
import subprocess
import sys

from isogloss.store.recordings.recording import Recording
from isogloss.store.recordings.store import Store
from isogloss.store.testing.checks import require
from isogloss.store.testing.fenced_writer import SHARD_BYTES
from isogloss.store.testing.samples import check_sample, sample_batch, sample_spec

SPEC = sample_spec()


class Writer:
    """``isogloss.store.testing.fenced_writer`` in its own process.

    Args:
        address: the store's address.
        producer: name of the producer of its batches.
        *options: further options of the command line.
    """

    def __init__(self, address: str, producer: str, *options: str) -> None:
        module = "isogloss.store.testing.fenced_writer"
        self.producer = producer
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, address, producer, *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        """What it said so far."""

    def until(self, wanted: str) -> None:
        """Read the process's output up to a line that begins with ``wanted``."""
        for line in self.process.stdout or ():
            self.lines.append(line.strip())
            if line.startswith(wanted):
                return
        raise AssertionError(f"the writer ended after {self.lines[-3:]}, wanted {wanted!r}")

    def end(self) -> None:
        """Kill the process and read the rest of its output, without an unfinished last line."""
        self.process.kill()
        if self.process.stdout is not None:
            with self.process.stdout as output:
                self.lines += output.read().rpartition("\n")[0].splitlines()
        self.process.wait()

    @property
    def acknowledged(self) -> dict[str, int]:
        """Return the last batch that the process said was acknowledged, if any."""
        said = f"{self.producer} "
        numbers = [line.split(" ")[1] for line in self.lines if line.startswith(said)]
        return {self.producer: int(numbers[-1])} if numbers else {}


def append_groups(recording: Recording, first: int, groups: int, producer: str = "p") -> None:
    """Append groups of two batches in a lane of their own, which is closed."""
    with recording.open_lane() as lane:
        for start in range(first, first + 2 * groups, 2):
            lane.append([sample_batch(SPEC, producer, start + ahead) for ahead in range(2)])


def holds_exactly(recording: Recording, batches: int) -> None:
    """Check that the recording holds the first so many batches of producer ``p``, no more."""
    found = check_sample(recording.reader(), {})
    require(found == {"p": batches}, f"the recording holds {found}, wanted {batches} batches")


def kill_between_rows_and_record(address: str) -> None:
    """Kill a writer before the record of its third commit: nothing of that may become visible."""
    writer = Writer(address, "p", "--pause-at", "3")
    try:
        writer.until("prepared")
    finally:
        writer.end()
    require(writer.acknowledged == {"p": 2}, f"the writer said {writer.lines}")
    with Store.open(address, fencing="create", lease_s=5.0) as store:
        recording = store.recording("sample")
        holds_exactly(recording, 2)
        append_groups(recording, 3, 2)
        holds_exactly(recording, 6)
        removed = store.collect_garbage(0.0)
        require(removed >= len(SPEC.sites), f"{removed} names of the half commit were removed")
        recording.derive()
        holds_exactly(recording, 6)
        require(recording.verify() == [], f"verify says {recording.verify()}")


def wake_a_sleeper(address: str) -> None:
    """Stop a writer, take its store over, let it go on: it may acknowledge nothing more."""
    writer = Writer(address, "p")
    try:
        writer.until("p 3")
        writer.process.send_signal(signal.SIGSTOP)
        with Store.open(address, fencing="create", force=True) as store:
            recording = store.recording("sample")
            before = recording.cursor("p")
            writer.process.send_signal(signal.SIGCONT)
            writer.until("fenced")
            said = writer.acknowledged["p"]
            require(said <= before, f"it acknowledged {said}, and was fenced after {before}")
            holds_exactly(recording, before)
            append_groups(recording, before + 1, 1)
            store.collect_garbage(0.0)
            holds_exactly(recording, before + 2)
            require(recording.verify() == [], f"verify says {recording.verify()}")
    finally:
        writer.end()


def wake_a_joiner(address: str) -> None:
    """Stop an owner while it joins lanes, take its store over, let it go on: nothing may change."""
    with Store.open(address, fencing="create", lease_s=5.0) as store:
        recording = store.create_recording(SPEC, ["a", "b"], shard_bytes=SHARD_BYTES)
        for first in (1, 3, 5):
            append_groups(recording, first, 1)
        old = recording.revision()
    joiner = Writer(address, "p", "--join", "--take-over")
    try:
        joiner.until("copied")
        joiner.process.send_signal(signal.SIGSTOP)
        with Store.open(address, fencing="create", force=True) as store:
            recording = store.recording("sample")
            store.collect_garbage(0.0)
            append_groups(recording, 7, 1)
            done = recording.compact()
            require(done.lanes == 4, f"{done} of 4 lanes were joined")
            joiner.process.send_signal(signal.SIGCONT)
            joiner.until("fenced")
            require("joined" not in joiner.lines, f"the joiner said {joiner.lines}")
            with Store.attach(address) as other:
                for found in (recording, other.recording("sample")):
                    holds_exactly(found, 8)
                    require(len(found.lanes()) == 1, f"the lanes are {found.lanes()}")
                    require(found.reader(old).rows == old.rows, "older revisions lost rows")
            require(recording.verify() == [], f"verify says {recording.verify()}")
            require(store.collect_garbage(0.0) == 0, "the joiner left something behind")
    finally:
        joiner.end()


def duel(address: str, turns: int) -> None:
    """Let two writers take the store from one another, and check what each acknowledged.

    Args:
        address: the store's address.
        turns: how many times each is fenced before both are killed.
    """
    with Store.open(address, fencing="create", lease_s=5.0) as store:
        store.create_recording(SPEC, ["a", "b"], shard_bytes=SHARD_BYTES)
    writers = [Writer(address, name, "--take-over", "--reopen") for name in ("x", "y")]
    try:
        for _ in range(turns):
            for writer in writers:
                writer.until("fenced")
    finally:
        for writer in writers:
            writer.end()
    acknowledged = {**writers[0].acknowledged, **writers[1].acknowledged}
    with Store.open(address, fencing="create", force=True) as store:
        found = check_sample(store.recording("sample").reader(), acknowledged)
        require(bool(found), "they wrote nothing")
        require(store.verify() == [], f"verify says {store.verify()}")
