"""Parts of foreign codes that clients sent, kept until the job that imports them takes them.

``uploads/<digest>/<first segment>-<stop>/`` in the store's directory, a part a directory, written
whole. A part that is sent again is not written again, so an upload that broke off goes on.
"""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isogloss.errors import Conflict, CorruptData, InvalidInput, InvalidName, ResourceExhausted
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.job_specs import ImportSpec
from isogloss.store import CheckedCodes, CodesDigest, Csr, Store, read_arrays, write_arrays

_MOST = 16
"""Uploads at a time: who sends a part of one more is refused."""

_DIGEST = re.compile("[0-9a-f]{64}")


def upload_directory(store: Store, upload: str) -> Path:
    """Return where the parts of an upload are.

    Raises:
        InvalidName: ``upload`` is no SHA-256.
        InvalidInput: the store is on an object store, which holds no codes.
    """
    store.check_artifacts()
    if not _DIGEST.fullmatch(upload):
        raise InvalidName(f"upload is {upload[:80]!r}, wanted the 64 digits of a SHA-256")
    return store.root / "uploads" / upload


def keep_part(store: Store, upload: str, first: int, part: CheckedCodes) -> int:
    """Keep a part of an upload.

    Args:
        store: the store.
        upload: SHA-256 of the whole codes.
        first: first segment of the part.
        part: the codes of its segments.

    Returns:
        How many segments of the upload are kept, from the first one on and without a gap.

    Raises:
        ResourceExhausted: there are too many other uploads.
        Conflict: a part that begins there is kept already and is another one.
        StorageFull: the disk is full; nothing of the part is kept.
    """
    directory = upload_directory(store, upload)
    if not directory.is_dir():
        others = [path for path in directory.parent.glob("*") if path.is_dir()]
        if len(others) >= _MOST:
            raise ResourceExhausted(
                f"{len(others)} uploads of codes are kept and not imported: import them, or remove "
                "old ones with collect_garbage"
            )
    target = directory / f"{first:012d}-{first + part.segments:012d}"
    for other in directory.glob(f"{first:012d}-*"):
        if other != target or _read(other).digest != part.digest:
            raise Conflict(
                f"upload {upload[:12]} has another part from segment {first} on: the digest is not "
                "that of these codes, or they are cut otherwise than before"
            )
    if not target.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        arrays = {
            "indptr": part.codes.indptr,
            "indices": part.codes.indices,
            "values": part.codes.values,
            "present": part.present,
        }
        write_arrays(target, arrays, {"kind": "codes part", "features": part.features})
    return max((stop for _, stop in _parts(directory)), default=0)


def read_parts(store: Store, upload: str) -> Iterator[CheckedCodes]:
    """Yield the parts of an upload, from the first segment to the first gap."""
    for path, _ in _parts(upload_directory(store, upload)):
        yield _read(path)


def check_upload(store: Store, spec: ImportSpec, segments: int) -> None:
    """Raise an error unless all parts of an upload are there and are what its digest says.

    Args:
        store: the store.
        spec: the import.
        segments: segments of the probe.

    Raises:
        InvalidInput: segments are missing, or the codes have another digest or number of features.
    """
    digest, found = CodesDigest(spec.features), 0
    for part in read_parts(store, spec.upload):
        if part.features != spec.features:
            raise InvalidInput(
                f"upload {spec.upload[:12]} is of {part.features} features, wanted {spec.features}"
            )
        digest.update(part)
        found += part.segments
    if found != segments:
        raise InvalidInput(
            f"upload {spec.upload[:12]} has {found} of the probe's {segments} segments: send the "
            f"parts from segment {found} on, then import"
        )
    if digest.hexdigest() != spec.upload:
        raise InvalidInput(
            f"upload {spec.upload[:12]} has codes of digest {digest.hexdigest()[:12]}: send them "
            "again under their own digest"
        )


def remove_uploads(store: Store, jobs: Jobs, older_s: float) -> int:
    """Remove uploads that no unfinished job imports and that nobody added to lately.

    Args:
        store: the store.
        jobs: its job queue.
        older_s: uploads that changed less than so many seconds ago stay.

    Returns:
        How many were removed.
    """
    if store.is_remote:
        return 0
    kept = {job.spec.get("upload") for job in jobs.list() if not job.state.is_final}
    removed = 0
    for path in sorted((store.root / "uploads").glob("[0-9a-f]*")):
        if path.name not in kept and time.time() - path.stat().st_mtime >= older_s:
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _parts(directory: Path) -> Iterator[tuple[Path, int]]:
    """Yield the parts up to the first gap, each with the segment behind its last."""
    expected = 0
    for path in sorted(directory.glob("[0-9]*-[0-9]*")):
        first, stop = (int(place) for place in path.name.split("-"))
        if first != expected:
            return
        expected = stop
        yield path, stop


def _read(path: Path) -> CheckedCodes:
    arrays, attributes = read_arrays(path)
    try:
        return CheckedCodes(
            features=int(str(attributes["features"])),
            codes=Csr(
                indptr=arrays["indptr"].astype(np.int64),
                indices=arrays["indices"].astype(np.int32),
                values=arrays["values"].astype(np.float32),
            ),
            present=arrays["present"].astype(np.bool_),
        )
    except (KeyError, ValueError) as error:
        raise CorruptData(f"{path} is no part of codes ({error}): send them again") from error
