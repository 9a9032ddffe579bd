"""A process that appends sample batches to a direct lane: ``python -m ... STORE < TICKET``.

Prints ``producer sequence`` for each batch acknowledged, until it is killed, gets an end of input
(then it closes the lane and prints ``closed``), or the owner ends the lane (then ``fenced``).
Imports nothing but the store.
"""

import select
import sys
import time
from pathlib import Path

from isogloss.errors import Fenced
from isogloss.store.recordings.open_direct_lane import open_direct_lane
from isogloss.store.testing.samples import sample_batch

PAUSE_S = 0.02
"""Between two groups, so that checking what was written takes less time than writing it."""


def main() -> None:
    """Append groups of one batch per producer of the ticket."""
    ticket = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
    try:
        with open_direct_lane(Path(sys.argv[1]), ticket) as lane:
            following = {name: last + 1 for name, last in lane.cursors.items()}
            while not select.select([sys.stdin], [], [], 0)[0]:
                group = [
                    sample_batch(lane.ticket.spec, name, number)
                    for name, number in following.items()
                ]
                lane.append(group)
                for producer, sequence in following.items():
                    sys.stdout.write(f"{producer} {sequence}\n")
                    following[producer] = sequence + 1
                sys.stdout.flush()
                time.sleep(PAUSE_S)
        sys.stdout.write("closed\n")
    except Fenced:
        sys.stdout.write("fenced\n")


if __name__ == "__main__":
    main()
