"""Arrow Flight as a peer: ``python flight.py serve ADDRESS`` and ``python flight.py send ADDRESS``.

It runs in an environment of its own, which has pyarrow and numpy and no isogloss: set
``ISOGLOSS_FLIGHT_PYTHON`` to its Python. The server says its address and ends with its standard
input; on a line ``cpu`` it says its CPU time. The sender reads how many MiB to send, one number a
line, and says its CPU time for each.
"""

import sys
import threading
import time
from collections.abc import Iterable


def serve(address: str) -> None:
    """Take what is sent and keep nothing."""
    from pyarrow import flight  # pyright: ignore[reportMissingImports] - of another environment

    class Server(flight.FlightServerBase):  # pyright: ignore[reportUntypedBaseClass]
        def do_put(
            self, context: object, descriptor: object, reader: Iterable[object], writer: object
        ) -> None:
            for _ in reader:
                pass

    server = Server(address)
    threading.Thread(target=server.serve, daemon=True).start()
    print(address if "unix" in address else f"grpc://127.0.0.1:{server.port}", flush=True)
    for _ in sys.stdin:
        print(time.process_time(), flush=True)


def send(address: str) -> None:
    """Send so many blocks of 1 MiB as each line of standard input says."""
    import numpy as np
    import pyarrow as pa  # pyright: ignore[reportMissingImports] - of another environment
    from pyarrow import flight  # pyright: ignore[reportMissingImports]

    rows = np.zeros(1 << 20, np.uint8)
    block = pa.RecordBatch.from_arrays([pa.array(rows)], names=["rows"])
    client = flight.connect(address)
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.process_time()
        writer, _ = client.do_put(flight.FlightDescriptor.for_path("x"), block.schema)
        for _ in range(int(line)):
            writer.write_batch(block)
        writer.close()
        print(time.process_time() - began, flush=True)


if __name__ == "__main__":
    {"serve": serve, "send": send}[sys.argv[1]](sys.argv[2])
