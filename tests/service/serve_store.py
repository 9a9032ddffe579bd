"""A real server process for tests: serve_store.py STORE OPTIONS(JSON); says its addresses."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.jobs.limits import JobLimits
from isogloss.service.jobs.processes import watch_parent
from isogloss.service.processes.config import ServerConfig
from isogloss.service.processes.control import serve
from isogloss.store import Store
from isogloss.store.testing import FaultyFiles


def announce(addresses: Sequence[str]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(list(addresses)).encode() + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", help="directory, or address of an object store")
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--full-after", type=int, default=0, help="writes before the disk is full")
    parser.add_argument("--held-bytes", type=int, default=256 << 20)
    parser.add_argument("--sessions", type=int, default=512, help="producers at a time")
    parser.add_argument("--drain-s", type=float, default=10.0)
    parser.add_argument("--job-workers", type=int, default=None, help="jobs at a time")
    parser.add_argument("--job-time-s", type=float, default=1e6, help="that a job may run")
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--parent", type=int, required=True, help="the server ends with it")
    given = parser.parse_args()
    watch_parent(given.parent)
    store: Store | str = given.store
    if given.full_after:
        files = FaultyFiles(error=errno.ENOSPC, operations=frozenset({"write"}), lasting=True)
        store = Store.open(given.store, files=files)
        files.fail_at = files.count + given.full_after
    limits = IngestLimits(
        held_bytes=given.held_bytes,
        batch_bytes=min(64 << 20, given.held_bytes),
        sessions=given.sessions,
    )
    config = ServerConfig(
        listen=tuple(given.listen),
        certificate=given.certificate,
        key=given.key,
        drain_s=given.drain_s,
        run_workers=given.workers,
        limits=limits,
        jobs=JobLimits(workers=given.job_workers, time_s=given.job_time_s),
    )
    serve(store, config, on_ready=announce)


if __name__ == "__main__":
    main()
