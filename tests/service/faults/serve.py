"""`isogloss serve` whose workers count instead of training: serve.py STORE PARENT LISTEN...

Says its addresses. With --server it is the process that the other one keeps running.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.jobs.processes import watch_parent
from isogloss.service.processes.config import ServerConfig
from isogloss.service.processes.keeping import keep_serving
from isogloss.service.server.call_limits import CallLimits

WORKER = Path(__file__).parents[1] / "jobs" / "counting_worker.py"


def announce(addresses: Sequence[str]) -> None:
    os.write(1, json.dumps(list(addresses)).encode() + b"\n")


def keep(store: str, parent: int, listen: Sequence[str]) -> int:
    watch_parent(parent)
    config = ServerConfig(
        listen=tuple(listen),
        drain_s=5.0,
        calls=CallLimits(part_idle_s=2.0),
        limits=IngestLimits(idle_lane_s=0.5, idle_session_s=2.0),
    )
    command = (sys.executable, __file__, "--server")
    return keep_serving(store, config, on_ready=announce, command=command)


def serve(store: str) -> None:
    from isogloss.service.jobs.supervisor import Jobs
    from isogloss.service.processes.control import main

    defaults = Jobs.__init__.__kwdefaults__
    assert defaults is not None
    defaults["worker_command"] = (sys.executable, str(WORKER))
    main(store)


if __name__ == "__main__":
    if sys.argv[1] == "--server":
        serve(sys.argv[2])
    else:
        root, starter, *places = sys.argv[1:]
        sys.exit(keep(root, int(starter), places))
