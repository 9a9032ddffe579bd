"""A process that appends sample batches directly until it is killed: run_direct.py STORE RECORDING.

Says the number of each batch of producer ``p`` once it is durable.
"""

import os
import sys

import isogloss
from isogloss.store.testing import sample_batch


def main() -> None:
    store, recording = sys.argv[1:]
    with isogloss.connect(store) as client:
        spec = client.recording(recording).spec
        with client.stream(recording, "p", direct=True) as stream:
            while True:
                stream.write(sample_batch(spec, "p", stream.next_sequence))
                stream.flush()
                os.write(sys.stdout.fileno(), b"%d\n" % stream.durable_sequence)


if __name__ == "__main__":
    main()
