"""A real server whose disk holds up upkeep: slow_store.py STORE GATE PARENT.

While the file GATE is missing, the first work that reads is held after a few reads until GATE is
there; other work goes on.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.service.jobs.processes import watch_parent
from isogloss.service.processes.config import ServerConfig
from isogloss.service.processes.control import serve
from isogloss.store import FileSystem, Store

_FREE_READS = 40
_PAUSE_S = 0.03


class SlowFiles(FileSystem):
    """Each read for upkeep takes a while; those of one work wait while the gate is closed."""

    def __init__(self, gate: Path) -> None:
        super().__init__()
        self._gate = gate
        self._held: tuple[threading.Thread, int] | None = None

    def read_into(self, descriptor: int, buffer: NDArray[np.uint8], offset: int) -> None:
        if threading.current_thread().name == "isogloss-upkeep":
            self._hold()
            time.sleep(_PAUSE_S)
        super().read_into(descriptor, buffer, offset)

    def _hold(self) -> None:
        here = threading.current_thread()
        if self._gate.exists():
            self._held = None
            return
        if self._held is None or not self._held[0].is_alive():
            self._held = (here, 0)
        if self._held[0] is not here:
            return
        self._held = (here, self._held[1] + 1)
        while self._held[1] > _FREE_READS and not self._gate.exists():
            time.sleep(0.01)


def announce(addresses: Sequence[str]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(list(addresses)).encode() + b"\n")


if __name__ == "__main__":
    root, gate, parent = sys.argv[1:]
    watch_parent(int(parent))
    store = Store.open(root, files=SlowFiles(Path(gate)))
    serve(store, ServerConfig(run_workers=False), on_ready=announce)
