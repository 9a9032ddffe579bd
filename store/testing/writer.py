"""A process that appends sample batches until it is killed: ``python -m ... STORE``.

Prints ``producer sequence`` for each batch acknowledged. Imports nothing but the store.
"""

import sys

from isogloss.store.recordings.store import Store
from isogloss.store.testing.samples import sample_batch, sample_spec

PRODUCERS = ("rank-0", "rank-1")
SHARD_BYTES = 64 << 10


def main() -> None:
    """Append groups of one batch per producer, for ever."""
    spec = sample_spec()
    with Store.open(sys.argv[1]) as store:
        recording = store.create_recording(spec, ["a", "b"], shard_bytes=SHARD_BYTES)
        lane = recording.open_lane()
        following = {producer: recording.cursor(producer) + 1 for producer in PRODUCERS}
        while True:
            group = [sample_batch(spec, name, number) for name, number in following.items()]
            lane.append(group)
            for producer, sequence in following.items():
                sys.stdout.write(f"{producer} {sequence}\n")
                following[producer] = sequence + 1
            sys.stdout.flush()


if __name__ == "__main__":
    main()
