"""The real worker with a task of our own: it counts, and misbehaves as its job's config says.

A number before the store says for how many seconds it loads.
"""

import errno
import os
import signal
import sys
import time

from isogloss.errors import InvalidInput
from isogloss.service.jobs.processes import end_with_supervisor
from isogloss.service.processes.worker import run
from isogloss.service.tasks.heart import Heart, Task
from isogloss.service.values.jobs import JobRecord
from isogloss.store import Store


def count(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    config = record.spec["config"]
    assert isinstance(config, dict)
    mode, total, pause_s = config.get("mode", ""), config.get("total", 20), config.get("pause_s", 0)
    file = store.root / f"{record.spec['dictionary']}.count"
    first = heart.pin("first", lambda: record.attempt)
    done = int(file.read_text()) if file.exists() else 0
    if mode == "raise":
        raise InvalidInput("features 0, wanted at least 1: ask for more")
    if mode == "bug":
        return {"ratio": 1 / (total - total)}
    if mode == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "/some/where")
    if mode == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while mode == "deaf":
        time.sleep(0.05)
    for step in range(done, total):
        heart.check()
        time.sleep(pause_s)
        with file.with_suffix(".steps").open("a") as steps:
            steps.write(f"{step} {record.attempt}\n")
        (temporary := file.with_suffix(".new")).write_text(str(step + 1))
        temporary.rename(file)
        heart.progress(step + 1, total, {"fvu": 1 / (step + 1)})
    return {"dictionary": record.spec["dictionary"], "first": first}


if __name__ == "__main__":
    end_with_supervisor()
    *load_s, root, job, attempt = sys.argv[1:]

    def load(kind: str) -> Task:
        for seconds in load_s:
            time.sleep(float(seconds))
        return count

    sys.exit(run(root, job, int(attempt), load))
