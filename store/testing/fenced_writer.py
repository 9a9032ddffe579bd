"""A process that appends sample batches to a store without locks, until it is fenced or killed.

``python -m isogloss.store.testing.fenced_writer ADDRESS PRODUCER [--take-over] [--reopen]
[--pause-at N] [--join]``

Prints ``PRODUCER sequence`` for each batch acknowledged, ``fenced`` when another owner took over,
``prepared`` when it stopped between the rows and the record of commit N. With ``--join`` it appends
nothing but joins the lanes, slowly, and prints ``copied`` after each commit, ``joined`` at the end.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from isogloss.errors import Fenced, StoreOwned
from isogloss.store.disk.filesystem import FileSystem
from isogloss.store.fenced.records import COMMITS
from isogloss.store.recordings.store import Store
from isogloss.store.testing.samples import sample_batch, sample_spec

SHARD_BYTES = 16 << 10
LEASE_S = 2.0


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class PausingFiles(FileSystem):
    """The operating system's files, which stop before the record of one commit."""

    pause_at = 0

    def create_record(self, path: Path, content: bytes, *, look: bool = True) -> None:
        """See FileSystem."""
        pause_before(path, self.pause_at)
        super().create_record(path, content, look=look)


def pause_before(path: Path, pause_at: int) -> None:
    """Wait for a signal if a record is that of the commit to stop at."""
    if pause_at and path.parent.parent.name == COMMITS and int(path.name) == pause_at:
        say("prepared")
        signal.pause()


def open_files(address: str, pause_at: int) -> tuple[str, FileSystem | None]:
    """Return where to open the store and its files; None for the usual ones."""
    if not pause_at:
        return address, None
    if "://" not in address:
        files = PausingFiles()
        files.pause_at = pause_at
        return address, files
    from isogloss.store.disk.object_files import ObjectFiles, open_url

    class PausingObjects(ObjectFiles):
        def create_record(self, path: Path, content: bytes, *, look: bool = True) -> None:
            pause_before(path, pause_at)
            super().create_record(path, content, look=look)

    return "/", PausingObjects(open_url(address).store)


def append(store: Store, producer: str) -> None:
    """Append batches of a producer, for ever."""
    recording = store.create_recording(sample_spec(), ["a", "b"], shard_bytes=SHARD_BYTES)
    lane = recording.open_lane()
    sequence = recording.cursor(producer)
    while True:
        sequence += 1
        lane.append([sample_batch(recording.spec, producer, sequence)])
        say(f"{producer} {sequence}")


def join(store: Store) -> None:
    """Join the lanes of the recording, slowly."""

    def copied(lane: str, done: int, total: int) -> None:
        del lane, done, total
        say("copied")
        time.sleep(0.1)

    store.recording(sample_spec().recording).compact(on_progress=copied)
    say("joined")


def main() -> None:
    """Append until this process is fenced, or killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("producer")
    parser.add_argument("--take-over", action="store_true")
    parser.add_argument("--reopen", action="store_true")
    parser.add_argument("--pause-at", type=int, default=0)
    parser.add_argument("--join", action="store_true")
    options = parser.parse_args()
    while True:
        address, files = open_files(options.address, options.pause_at)
        began = time.monotonic()
        took = 0.0
        try:
            with Store.open(
                address, files=files, fencing="create", force=options.take_over, lease_s=LEASE_S
            ) as store:
                took = time.monotonic() - began
                if options.join:
                    join(store)
                    return
                append(store, options.producer)
        except (Fenced, StoreOwned):
            say("fenced")
            if not options.reopen:
                return
            time.sleep(0.1 + took)  # the other one gets as far as writing


if __name__ == "__main__":
    main()
