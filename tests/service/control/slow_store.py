"""A real server on a disk that reads slowly for upkeep: slow_store.py STORE SECONDS PARENT."""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isogloss.service.jobs.processes import watch_parent
from isogloss.service.processes.control import ServerConfig, serve
from isogloss.store import FileSystem, Store


class SlowFiles(FileSystem):
    """Each read for upkeep takes at least a given time."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self._pause_s = pause_s

    def read_into(self, descriptor: int, buffer: NDArray[np.uint8], offset: int) -> None:
        if threading.current_thread().name == "isogloss-upkeep":
            time.sleep(self._pause_s)
        super().read_into(descriptor, buffer, offset)


def announce(addresses: Sequence[str]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(list(addresses)).encode() + b"\n")


if __name__ == "__main__":
    root, pause_s, parent = sys.argv[1:]
    watch_parent(int(parent))
    store = Store.open(root, files=SlowFiles(float(pause_s)))
    serve(store, ServerConfig(run_workers=False), on_ready=announce)
