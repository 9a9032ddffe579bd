"""Remove directories of artifacts that were deleted or never finished, and logs of old jobs.

An artifact is a dictionary, a probe, codes, an atlas or a match.
:meth:`isogloss.store.Store.collect_garbage` removes what crashes left of recordings. The functions
here also need to know the jobs: an unfinished job goes on with its directory.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.state_directory import make_state_directory
from isogloss.store import Store

_FOLDERS = {
    "dictionary": "dictionaries",
    "probe": "probes",
    "atlas": "atlases",
    "match": "matches",
}
"""Per kind of artifact, the folder whose directories are named by its uids."""


def remove_orphans(store: Store, jobs: Jobs, older_s: float) -> int:
    """Remove the directories of artifacts that are not in the catalog.

    Nothing is removed while a worker runs, since it may be writing one. Directories with which
    unfinished jobs go on stay too.

    Args:
        store: the store; this process owns it.
        jobs: the store's job queue.
        older_s: directories changed less than so many seconds ago stay.

    Returns:
        How many directories were removed.
    """
    if store.is_remote:  # it holds no artifacts, and its root is no directory of this machine
        return 0
    # Listed before jobs and catalog: what a later job makes is not in the list, and what one
    # finished meanwhile is in the catalog.
    found = [*_named_by_uid(store), *_codes(store)]
    unfinished = [job for job in jobs.list() if not job.state.is_final]
    if any(job.attempt and job.state != "QUEUED" for job in unfinished):
        return 0
    kept = {str(uid) for job in unfinished for uid in jobs.pinned(job.id).values()}
    kept |= {entry.uid for kind in _FOLDERS for entry in store.catalog.list(kind)}
    removed = 0
    for path, uids in found:
        if not uids <= kept and _age_s(path) >= older_s:
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    for path in (store.root / "codes").glob("*"):
        with contextlib.suppress(OSError):  # it is not empty
            path.rmdir()
    return removed


def remove_logs(store: Store, jobs: Jobs, older_s: float) -> int:
    """Remove the logs of jobs that have ended, or that the store does not know.

    Args:
        store: the store; this process owns it.
        jobs: the store's job queue.
        older_s: logs of jobs that ended less than so many seconds ago stay.

    Returns:
        How many logs were removed.
    """
    known = {job.id: job for job in jobs.list()}
    removed = 0
    for path in sorted((make_state_directory(store) / "jobs").glob("*.log")):
        job = known.get(path.stem)
        is_over = job is None or job.state.is_final
        age_s = _age_s(path) if job is None else time.time() - job.updated
        if is_over and age_s >= older_s:
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def _named_by_uid(store: Store) -> Iterator[tuple[Path, set[str]]]:
    for folder in _FOLDERS.values():
        for path in sorted((store.root / folder).glob("[!.]*")):
            yield path, {path.name}


def _codes(store: Store) -> Iterator[tuple[Path, set[str]]]:
    for path in sorted((store.root / "codes").glob("[!.]*/[!.]*")):
        yield path, {path.parent.name, path.name}


def _age_s(path: Path) -> float:
    """Return how many seconds ago a path was last changed; 0 where it does not exist any more."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
